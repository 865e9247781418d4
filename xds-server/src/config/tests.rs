//! The configuration as a user meets it: a text goes in, and everything that is said about it comes out.

use std::fs;
use std::path::Path;
use std::time::Duration;

use leadsman_core::model::ServiceName;
use leadsman_core::policy::ServiceSettings;
use serde_json::Value;
use tempfile::TempDir;

use super::*;

/// What is said about `text`, with the folder of the file cut off.
fn said(text: &str, overrides: &Overrides) -> String {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("services")).unwrap();
    let path = folder.path().join("leadsman.yaml");
    fs::write(&path, text).unwrap();
    let prefix = format!("{}/", folder.path().display());
    read(&path, overrides).problems.to_string().replace(&prefix, "")
}

fn check(text: &str, expected: &str) {
    pretty(&said(text, &Overrides::default()), expected);
}

fn pretty(found: &str, expected: &str) {
    assert!(found == expected, "found:\n{found}\nexpected:\n{expected}");
}

fn parsed(text: &str) -> Config {
    parse(text, Path::new("/etc/leadsman/leadsman.yaml"), &Overrides::default()).unwrap()
}

#[test]
fn an_empty_file_and_the_printed_defaults_mean_the_same() {
    let expected = parsed("");
    assert_eq!(
        parsed(DEFAULTS),
        Config {
            services: parsed(DEFAULTS).services,
            ..expected.clone()
        }
    );
    let service = ServiceName::new("orders").unwrap();
    assert_eq!(parsed(DEFAULTS).services.settings(&service), ServiceSettings::default());
    let (name, path) = Config::DEFAULT_SOURCE;
    let name = SourceName::new(name).unwrap();
    let path = Path::new("/etc/leadsman").join(path);
    assert_eq!(
        expected.sources,
        BTreeMap::from([(name, SourceConfig::File(file::Config { path }))])
    );
    assert_eq!(expected.xds.startup_wait, Duration::from_secs(10));
}

#[test]
fn the_documented_example_is_a_valid_file() {
    check(
        r#"
node: { id: cp-1 }
xds:   { listen: 127.0.0.1:18000 }
admin: { listen: 127.0.0.1:18001 }
sources:
  local: { file: { path: services/ } }
  shop:  { etcd: { endpoints: [http://127.0.0.1:2379], prefix: /services/, layout: auto } }
services:
  "*":    { protocol: http1, connect_timeout: 1s, timeout: 15s }
  orders: { sources: [shop, local], merge: priority }
"#,
        "",
    );
}

#[test]
fn one_run_names_every_mistake() {
    check(include_str!("tests/mistakes.yaml"), include_str!("tests/mistakes.txt"));
}

#[test]
fn plaintext_on_a_reachable_address_needs_a_word() {
    check(
        "xds: { listen: 0.0.0.0:18000 }\nadmin: { listen: 0.0.0.0:18000 }\n",
        "\
leadsman.yaml:1:16: xds.listen: 0.0.0.0:18000 would serve plaintext to other machines
  1 | xds: { listen: 0.0.0.0:18000 }
    |                ^
  hint: configure `xds.tls`, or say `insecure: true` under `xds:`
leadsman.yaml:2:18: admin.listen: 0.0.0.0:18000 opens the admin API, which asks for no password
  2 | admin: { listen: 0.0.0.0:18000 }
    |                  ^
  hint: listen on 127.0.0.1, or say `insecure: true` under `admin:`
leadsman.yaml:2:18: admin.listen: 0.0.0.0:18000 is taken by `xds.listen` (0.0.0.0:18000)
  2 | admin: { listen: 0.0.0.0:18000 }
    |                  ^
  hint: give the two listeners different ports
",
    );
    check(
        "xds: { listen: 0.0.0.0:18000, insecure: true }\n",
        "\
leadsman.yaml:1:16: warning: xds.listen: 0.0.0.0:18000 serves plaintext to other machines
  1 | xds: { listen: 0.0.0.0:18000, insecure: true }
    |                ^
  hint: fine on a trusted network; else configure `xds.tls`
",
    );
}

#[test]
fn a_host_in_istio_is_a_name_of_dns_and_one_services_own() {
    check(
        "\
services:
  \"*\": { istio: { host: mesh.example } }
  a: { istio: { host: shop.example, port: 0 } }
  b: { istio: { host: shop.example } }
  c: { istio: { host: Shop.example, namespace: a.b } }
",
        "\
leadsman.yaml:2:25: services.\"*\".istio.host: every service would have this host
  2 |   \"*\": { istio: { host: mesh.example } }
    |                         ^
  hint: put `{service}` where its name belongs
leadsman.yaml:3:43: services.a.istio.port: port 0 is outside 1 to 65535
  3 |   a: { istio: { host: shop.example, port: 0 } }
    |                                           ^
leadsman.yaml:4:23: services.b.istio.host: shop.example is the host of a
  4 |   b: { istio: { host: shop.example } }
    |                       ^
  hint: give each service a host of its own
leadsman.yaml:5:23: services.c.istio.host: \"Shop\" is not made of lower-case letters, digits and hyphens, up to 63 between two dots
  5 |   c: { istio: { host: Shop.example, namespace: a.b } }
    |                       ^
leadsman.yaml:5:48: services.c.istio.namespace: \"a.b\" is not made of lower-case letters, digits and hyphens, up to 63 between two dots
  5 |   c: { istio: { host: Shop.example, namespace: a.b } }
    |                                                ^
",
    );
}

#[test]
fn a_flag_is_named_where_the_file_is_not_to_blame() {
    let overrides = Overrides {
        node_id: Some(String::new()),
        xds_listen: Some("10.0.0.1:18000".parse().unwrap()),
        admin_listen: None,
    };
    pretty(
        &said("{}", &overrides),
        "\
leadsman.yaml: --node-id: the id is empty
  hint: write a short name, such as cp-1
leadsman.yaml: --xds-listen: 10.0.0.1:18000 would serve plaintext to other machines
  hint: configure `xds.tls`, or say `insecure: true` under `xds:`
",
    );
}

#[test]
fn files_that_are_missing_are_found_before_the_start() {
    check(
        "xds:\n  tls: { cert: a.pem, key: services }\nsources:\n  here: { file: { path: nowhere } }\n",
        "\
leadsman.yaml:2:16: xds.tls.cert: a.pem can't be read: No such file or directory (os error 2)
  2 |   tls: { cert: a.pem, key: services }
    |                ^
  hint: name a PEM file that this user can read; relative paths start at the configuration file
leadsman.yaml:2:28: xds.tls.key: services is not a file
  2 |   tls: { cert: a.pem, key: services }
    |                            ^
  hint: name a PEM file that this user can read; relative paths start at the configuration file
leadsman.yaml:4:25: warning: sources.here.file.path: nowhere can't be read: No such file or directory (os error 2)
  4 |   here: { file: { path: nowhere } }
    |                         ^
  hint: create it; the source waits for it until then
",
    );
}

#[test]
fn keys_of_a_registry_that_need_each_other_are_checked_with_their_place() {
    check(
        r#"sources:
  a: { etcd: { endpoints: [http://a:1, http://a:1], prefix: "", username: u } }
  b: { etcd: { endpoints: [https://a:1], prefix: "", page_size: 0, tls: { ca: ca.pem } } }
"#,
        r#"leadsman.yaml:2:40: warning: sources.a.etcd.endpoints[1]: "http://a:1" is given twice
  2 |   a: { etcd: { endpoints: [http://a:1, http://a:1], prefix: "", username: u } }
    |                                        ^
  hint: remove one of them
leadsman.yaml:2:75: sources.a.etcd.username: username needs a password_file
  2 |   a: { etcd: { endpoints: [http://a:1, http://a:1], prefix: "", username: u } }
    |                                                                           ^
  hint: see the etcd keys in docs/configuration.md
leadsman.yaml:3:65: sources.b.etcd.page_size: page_size 0 is outside 1 to 100000
  3 |   b: { etcd: { endpoints: [https://a:1], prefix: "", page_size: 0, tls: { ca: ca.pem } } }
    |                                                                 ^
  hint: see the etcd keys in docs/configuration.md
leadsman.yaml:3:79: warning: sources.b.etcd.tls.ca: ca.pem can't be read: No such file or directory (os error 2)
  3 |   b: { etcd: { endpoints: [https://a:1], prefix: "", page_size: 0, tls: { ca: ca.pem } } }
    |                                                                               ^
  hint: the source waits for the file; relative paths start at the configuration file
"#,
    );
}

#[test]
fn a_registry_of_our_own_needs_a_port_of_its_own_and_says_whom_it_is_open_to() {
    check(
        r#"sources:
  a: { registry: {} }
  b: { registry: { listen: 0.0.0.0:18002, insecure: true } }
  c: { registry: { listen: 0.0.0.0:18003, store: {} } }
  d: { registry: { listen: 127.0.0.1:18001, tokens: tokens.yaml } }
"#,
        r#"leadsman.yaml:3:28: sources.b.registry.listen: 0.0.0.0:18002 is taken by `sources.a.registry.listen` (127.0.0.1:18002)
  3 |   b: { registry: { listen: 0.0.0.0:18002, insecure: true } }
    |                            ^
  hint: give the listeners different ports
leadsman.yaml:3:28: warning: sources.b.registry.listen: 0.0.0.0:18002 lets everybody who reaches it register anything
  3 |   b: { registry: { listen: 0.0.0.0:18002, insecure: true } }
    |                            ^
  hint: name a file of `tokens:`, or ask for certificates by `tls.client_ca`
leadsman.yaml:4:28: sources.c.registry.listen: listen 0.0.0.0:18003 would serve plaintext to other machines: configure `tls`, or say `insecure: true`
  4 |   c: { registry: { listen: 0.0.0.0:18003, store: {} } }
    |                            ^
  hint: see the registry keys in docs/configuration.md
leadsman.yaml:4:28: warning: sources.c.registry.listen: 0.0.0.0:18003 lets everybody who reaches it register anything
  4 |   c: { registry: { listen: 0.0.0.0:18003, store: {} } }
    |                            ^
  hint: name a file of `tokens:`, or ask for certificates by `tls.client_ca`
leadsman.yaml:5:28: sources.d.registry.listen: 127.0.0.1:18001 is taken by `admin.listen` (127.0.0.1:18001)
  5 |   d: { registry: { listen: 127.0.0.1:18001, tokens: tokens.yaml } }
    |                            ^
  hint: give the listeners different ports
leadsman.yaml:5:53: warning: sources.d.registry.tokens: tokens.yaml can't be read: No such file or directory (os error 2)
  5 |   d: { registry: { listen: 127.0.0.1:18001, tokens: tokens.yaml } }
    |                                                     ^
  hint: the source waits for the file; relative paths start at the configuration file
"#,
    );
}

#[test]
fn a_text_that_is_not_yaml_is_one_mistake_with_its_place() {
    let said = said("node:\n  id: [a\nxds: 1\n", &Overrides::default());
    assert!(said.starts_with("leadsman.yaml:3:"), "{said}");
    assert!(said.ends_with("nothing after this place was checked\n"), "{said}");
    assert_eq!(said.matches("hint:").count(), 1, "{said}");
}

#[test]
fn a_key_given_twice_is_a_mistake() {
    let said = said("node: { id: a }\nnode: { id: b }\n", &Overrides::default());
    assert!(
        said.starts_with("leadsman.yaml:2:1: duplicate mapping key: node not allowed here\n"),
        "{said}"
    );
}

#[test]
fn a_section_of_the_wrong_shape_is_named_in_the_words_of_yaml() {
    check(
        "xds: fast\nadmin: [a]\nsources: {}\nservices: { orders: [] }\n",
        r#"leadsman.yaml:1:6: xds: expected a mapping, found the text "fast"
  1 | xds: fast
    |      ^
leadsman.yaml:2:1: admin: expected a mapping, found a list
  2 | admin: [a]
    | ^
leadsman.yaml:3:1: sources: no source is configured
  3 | sources: {}
    | ^
  hint: add one, such as `local: { file: { path: services/ } }`, or leave the key out
leadsman.yaml:4:13: services.orders: expected a mapping, found a list
  4 | services: { orders: [] }
    |             ^
"#,
    );
    check(
        "- a\n",
        "leadsman.yaml:1:1: expected a mapping, found a list\n  1 | - a\n    | ^\n",
    );
}

#[test]
fn a_bare_word_stays_what_was_written() {
    let config = parsed("node: { id: no }\nservices: { 1.10: { protocol: tcp } }\n");
    assert_eq!(config.node.id, "no");
    let names: Vec<_> = config.services.names().map(ServiceName::as_str).collect();
    assert_eq!(names, ["1.10"]);
    assert_eq!(parsed("node: { id: 0x10 }").node.id, "0x10");
}

#[test]
fn a_name_that_could_steer_a_terminal_is_refused_and_never_shown_raw() {
    let said = said("services: { \"a\\e[31m\": { timeout: 1s } }\n", &Overrides::default());
    assert!(!said.contains('\u{1b}'), "{said}");
    assert!(
        said.starts_with("leadsman.yaml:1:13: services.\"a\\u{1b}[31m\": the name holds the control character"),
        "{said}"
    );
}

#[test]
fn overrides_beat_the_file() {
    let overrides = Overrides {
        node_id: Some("b".to_owned()),
        xds_listen: Some("127.0.0.1:1".parse().unwrap()),
        admin_listen: Some("127.0.0.1:2".parse().unwrap()),
    };
    let config = parse("node: { id: a }", Path::new("leadsman.yaml"), &overrides).unwrap();
    assert_eq!(config.node.id, "b");
    assert_eq!(config.xds.listen.port(), 1);
    assert_eq!(config.admin.listen.port(), 2);
}

#[test]
fn only_a_change_outside_of_services_needs_a_restart() {
    let old = parsed("services: { a: { timeout: 1s } }\n");
    assert_eq!(old.restart_keys(&parsed("services: { a: { timeout: 2s } }")), [""; 0]);
    let new = parsed("node: { id: b }\nxds: { startup_wait: 1s }\nsources: { other: { file: { path: x } } }\n");
    assert_eq!(
        old.restart_keys(&new),
        ["node.id", "xds.startup_wait", "sources.local", "sources.other"]
    );
}

#[test]
fn a_service_can_not_move_to_a_source_that_is_not_watched_yet() {
    let old = parsed("sources: { a: { file: { path: x } } }\n");
    let new = parsed(
        "sources: { a: { file: { path: x } }, b: { file: { path: y } } }\n\
         services: { one: { sources: [a] }, two: { sources: [a, b] } }\n",
    );
    assert_eq!(new.services_beyond(&old), ["services.two.sources"]);
    assert_eq!(new.services_beyond(&new), [""; 0]);
}

/// Each section by the beginning of its keys, and a text with an unknown key in it: serde then lists the known ones.
const SECTIONS: &[(&str, &str)] = &[
    ("", "zzz: 1"),
    ("node.", "node: { zzz: 1 }"),
    ("xds.", "xds: { zzz: 1 }"),
    ("xds.tls.", "xds: { tls: { cert: a, key: b, zzz: 1 } }"),
    ("admin.", "admin: { zzz: 1 }"),
    ("services.NAME.", "services: { a: { zzz: 1 } }"),
    ("services.NAME.istio.", "services: { a: { istio: { zzz: 1 } } }"),
    ("sources.NAME.file.", "sources: { a: { file: { path: a, zzz: 1 } } }"),
    (
        "sources.NAME.etcd.",
        "sources: { a: { etcd: { endpoints: [http://a:1], prefix: a, zzz: 1 } } }",
    ),
    (
        "sources.NAME.zookeeper.",
        "sources: { a: { zookeeper: { servers: [a:1], prefix: /a, zzz: 1 } } }",
    ),
    (
        "sources.NAME.zookeeper.tls.",
        "sources: { a: { zookeeper: { servers: [a:1], prefix: /a, tls: { zzz: 1 } } } }",
    ),
    (
        "sources.NAME.eureka.",
        "sources: { a: { eureka: { endpoints: ['http://a:1/'], zzz: 1 } } }",
    ),
    (
        "sources.NAME.eureka.tls.",
        "sources: { a: { eureka: { endpoints: ['http://a:1/'], tls: { zzz: 1 } } } }",
    ),
    (
        "sources.NAME.etcd.tls.",
        "sources: { a: { etcd: { endpoints: [http://a:1], prefix: a, tls: { zzz: 1 } } } }",
    ),
    (
        "sources.NAME.consul.",
        "sources: { a: { consul: { endpoints: [http://a:1], zzz: 1 } } }",
    ),
    ("sources.NAME.registry.", "sources: { a: { registry: { zzz: 1 } } }"),
    (
        "sources.NAME.registry.tls.",
        "sources: { a: { registry: { tls: { cert: a, key: b, zzz: 1 } } } }",
    ),
    (
        "sources.NAME.registry.store.",
        "sources: { a: { registry: { store: { zzz: 1 } } } }",
    ),
    (
        "sources.NAME.registry.store.embedded.",
        "sources: { a: { registry: { store: { embedded: { path: a, zzz: 1 } } } } }",
    ),
    (
        "sources.NAME.consul.tls.",
        "sources: { a: { consul: { endpoints: [http://a:1], tls: { zzz: 1 } } } }",
    ),
    ("sources.NAME.kubernetes.", "sources: { a: { kubernetes: { zzz: 1 } } }"),
    (
        "sources.NAME.kubernetes.tls.",
        "sources: { a: { kubernetes: { tls: { zzz: 1 } } } }",
    ),
    (
        "sources.NAME.nacos.",
        "sources: { a: { nacos: { endpoints: [http://a:1], zzz: 1 } } }",
    ),
    (
        "sources.NAME.nacos.tls.",
        "sources: { a: { nacos: { endpoints: [http://a:1], tls: { zzz: 1 } } } }",
    ),
    (
        "sources.NAME.dns.",
        "sources: { a: { dns: { names: { b: { name: c } }, zzz: 1 } } }",
    ),
    (
        "sources.NAME.dns.names.NAME.",
        "sources: { a: { dns: { names: { b: { name: c, zzz: 1 } } } } }",
    ),
];

#[test]
fn every_key_of_the_format_is_in_the_printed_defaults_and_in_the_documentation() {
    // The list is the format, and can't be forgotten here.
    let documentation = include_str!("../../../docs/configuration.md");
    let printed = printed_with_its_examples();
    let mut missing = Vec::new();
    for (prefix, text) in SECTIONS {
        let sections = sections_at(&printed, prefix);
        for key in known_keys(text) {
            let is_section = prefix.is_empty() || ["tls", "istio"].contains(&key.as_str());
            let documented = is_section || documentation.contains(&format!("| `{prefix}{key}` |"));
            if !documented || sections.iter().all(|section| section.get(&key).is_none()) {
                missing.push(format!("{prefix}{key}"));
            }
        }
    }
    assert_eq!(missing, [""; 0]);
}

/// The printed defaults as they would be if nothing in them were commented out.
fn printed_with_its_examples() -> Value {
    let lines = DEFAULTS.lines().map(|line| {
        let indent = line.len() - line.trim_start().len();
        let (blank, mut rest) = line.split_at(indent);
        let mut blank = blank.to_owned();
        while let Some(example) = rest.strip_prefix("# ").filter(|_| indent > 0) {
            let inner = example.trim_start();
            blank.push_str(&example[..example.len() - inner.len()]);
            rest = inner;
        }
        format!("{blank}{rest}\n")
    });
    serde_saphyr::from_str(&lines.collect::<String>()).unwrap()
}

/// The sections whose keys begin with `prefix`; `NAME` is any name.
fn sections_at<'a>(printed: &'a Value, prefix: &str) -> Vec<&'a Value> {
    let mut sections = vec![printed];
    for part in prefix.split_terminator('.') {
        let inner = sections.iter().filter_map(|section| section.as_object()).flatten();
        sections = inner
            .filter(|(key, _)| part == "NAME" || part == *key)
            .map(|(_, section)| section)
            .collect();
    }
    sections
}

fn known_keys(text_with_an_unknown_key: &str) -> Vec<String> {
    let path = Path::new("leadsman.yaml");
    let problems = parse(text_with_an_unknown_key, path, &Overrides::default()).unwrap_err();
    let hints = problems.problems.iter().filter_map(|problem| problem.hint.as_deref());
    let mut known = hints.filter_map(|hint| hint.strip_prefix("known here: "));
    let known = known.next().unwrap_or_else(|| panic!("{problems}"));
    known.split(", ").map(str::to_owned).collect()
}

#[test]
fn no_text_makes_the_reader_panic_or_loop() {
    let texts = [
        "null",
        "~: 1",
        "? [a]\n: b",
        "&a [*a]",
        "a: &x {b: *x}",
        "services: { a: null, b: { sources: [null, {}, []] } }",
        "sources: { a: { file: { path: [[[]]] } } }",
        "sources: { a: { file: file }, b: file, c: { file: null } }",
        "xds: { tls: {} }",
        "xds: { tls: { cert: 1, key: [] } }",
        "\u{feff}node: {}",
        "--- {}\n--- {}\n",
        "<<: { node: 1 }",
        "!!binary aGk=",
    ];
    for text in texts {
        let _ = said(text, &Overrides::default());
    }
}

mod watcher {
    use tokio::time::timeout;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn folder(text: &str) -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("services")).unwrap();
        let path = folder.path().join("leadsman.yaml");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_a_bad_one_is_an_error_until_it_is_mended() {
        let (_folder, path) = folder("node: { id: a }");
        let (mut watcher, config) = Watcher::start(&path, Overrides::default()).unwrap();
        assert_eq!(config.node.id, "a");
        fs::write(&path, "node: { id: b }").unwrap();
        let config = timeout(DEADLINE, watcher.next()).await.unwrap().unwrap();
        assert_eq!(config.node.id, "b");
        fs::write(&path, "node: { idd: b }").unwrap();
        let problems = timeout(DEADLINE, watcher.next()).await.unwrap().unwrap_err();
        assert_eq!(problems.problems.len(), 1);
        fs::write(&path, "node: { id: c }").unwrap();
        let config = timeout(DEADLINE, watcher.next()).await.unwrap().unwrap();
        assert_eq!(config.node.id, "c");
    }

    #[tokio::test]
    async fn a_swapped_link_beside_the_file_is_seen() {
        let (folder, path) = folder("");
        fs::remove_file(&path).unwrap();
        let place = |version: &str| {
            let directory = folder.path().join(version);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("leadsman.yaml"), format!("node: {{ id: {version} }}")).unwrap();
            let link = folder.path().join("..new");
            std::os::unix::fs::symlink(&directory, &link).unwrap();
            fs::rename(link, folder.path().join("..data")).unwrap();
        };
        place("one");
        std::os::unix::fs::symlink("..data/leadsman.yaml", &path).unwrap();
        let (mut watcher, config) = Watcher::start(&path, Overrides::default()).unwrap();
        assert_eq!(config.node.id, "one");
        place("two");
        let config = timeout(DEADLINE, watcher.next()).await.unwrap().unwrap();
        assert_eq!(config.node.id, "two");
    }

    #[tokio::test]
    async fn an_unchanged_file_is_silent_until_somebody_asks() {
        let (folder, path) = folder("node: { id: a }");
        let (mut watcher, _) = Watcher::start(&path, Overrides::default()).unwrap();
        fs::write(&path, "node: { id: a }").unwrap();
        fs::write(folder.path().join("other"), "x").unwrap();
        assert!(timeout(4 * super::super::watch::SETTLE, watcher.next()).await.is_err());
        watcher.note(true);
        let config = timeout(DEADLINE, watcher.next()).await.unwrap().unwrap();
        assert_eq!(config.node.id, "a");
    }
}
