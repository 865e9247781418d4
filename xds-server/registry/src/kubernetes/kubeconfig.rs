//! A kubeconfig file, as far as it says how to reach one cluster with credentials that are data or files.
//!
//! Pure. What is written there and can't be honoured is an error that names it: a cluster that is reached in another way
//! than its owner wrote down would be worse than none. Nothing of the file is repeated in an error, because it holds
//! secrets.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// PEM text in the file itself, or in another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Material {
    Data(Vec<u8>),
    File(PathBuf),
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum TokenSource {
    None,
    Inline(String),
    File(PathBuf),
}

/// One context.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) server: String,
    pub(super) ca: Option<Material>,
    pub(super) identity: Option<(Material, Material)>,
    pub(super) token: TokenSource,
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Inline(_) => f.write_str("Inline"),
            Self::File(file) => f.debug_tuple("File").field(file).finish(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    current_context: Option<String>,
    contexts: Option<Vec<NamedContext>>,
    clusters: Option<Vec<NamedCluster>>,
    users: Option<Vec<NamedUser>>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: Option<String>,
    user: Option<String>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: Option<String>,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: Option<User>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    username: Option<String>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
}

/// The context of this name, or the current one. Relative files begin at `directory`.
pub(super) fn select(text: &str, context: Option<&str>, directory: &Path) -> Result<Selected, String> {
    let file: Kubeconfig = serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map(|at| format!(" (line {})", at.line()));
        format!("is not a kubeconfig{}", place.unwrap_or_default())
    })?;
    let current = file.current_context.as_deref().filter(|name| !name.is_empty());
    let wanted = context.or(current).ok_or("has no current-context; set `context`")?;
    let contexts = file.contexts.into_iter().flatten();
    let found = contexts.into_iter().find(|named| named.name == wanted);
    let Context { cluster, user } = found.ok_or_else(|| format!("has no context {wanted:?}"))?.context;
    let cluster = cluster.unwrap_or_default();
    let mut clusters = file.clusters.into_iter().flatten();
    let found = clusters.find(|named| named.name == cluster);
    let cluster = found.ok_or_else(|| format!("has no cluster {cluster:?}"))?.cluster;
    let user = match user.filter(|name| !name.is_empty()) {
        None => User::default(),
        Some(name) => {
            let found = file.users.into_iter().flatten().find(|named| named.name == name);
            let found = found.ok_or_else(|| format!("has no user {name:?}"))?;
            found.user.unwrap_or_default()
        }
    };
    refuse(&cluster, &user)?;
    let Cluster {
        server,
        certificate_authority,
        certificate_authority_data,
        ..
    } = cluster;
    let cert = material(
        "client-certificate",
        user.client_certificate_data,
        user.client_certificate,
        directory,
    )?;
    let key = material("client-key", user.client_key_data, user.client_key, directory)?;
    let identity = match (cert, key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some((cert, key)),
        (Some(_), None) | (None, Some(_)) => return Err("has only one of client-certificate and client-key".to_owned()),
    };
    Ok(Selected {
        server: filled(server).ok_or("names no server")?,
        ca: material(
            "certificate-authority",
            certificate_authority_data,
            certificate_authority,
            directory,
        )?,
        identity,
        token: match (filled(user.token_file), filled(user.token)) {
            (Some(file), _) => TokenSource::File(directory.join(file)),
            (None, Some(token)) => TokenSource::Inline(token),
            (None, None) => TokenSource::None,
        },
    })
}

/// What can't be honoured.
fn refuse(cluster: &Cluster, user: &User) -> Result<(), String> {
    let written = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let cases = [
        (
            user.exec.is_some(),
            "exec: programs are not run; write the token into a file that tokenFile names",
        ),
        (
            user.auth_provider.is_some(),
            "auth-provider: it is not known any more; use a token or a certificate",
        ),
        (
            written(&user.username),
            "username: Kubernetes has had no passwords since 1.19",
        ),
        (
            written(&user.impersonate),
            "as: nobody is impersonated; give the user its own rights",
        ),
        (
            cluster.insecure_skip_tls_verify == Some(true),
            "insecure-skip-tls-verify: the server is always verified; name its certificate-authority",
        ),
        (
            written(&cluster.tls_server_name),
            "tls-server-name: the server must be reached by a name in its certificate",
        ),
        (written(&cluster.proxy_url), "proxy-url: proxies are not used"),
    ];
    match cases.iter().find(|(found, _)| *found) {
        Some((_, reason)) => Err(format!("can't be used, because of {reason}")),
        None => Ok(()),
    }
}

/// As kubectl does, data counts before a file.
fn material(
    key: &str,
    data: Option<String>,
    file: Option<String>,
    directory: &Path,
) -> Result<Option<Material>, String> {
    if let Some(mut data) = filled(data) {
        data.retain(|character| !character.is_ascii_whitespace());
        let bytes = STANDARD
            .decode(data)
            .map_err(|_| format!("holds {key}-data that is not base64"))?;
        return Ok(Some(Material::Data(bytes)));
    }
    Ok(filled(file).map(|file| Material::File(directory.join(file))))
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `kubectl config` writes it.
    const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
preferences: {}
current-context: east
contexts:
- context: { cluster: east, user: reader, namespace: shop }
  name: east
- context: { cluster: west, user: robot }
  name: west
- context: { cluster: west, user: '' }
  name: open
- context: { cluster: nowhere, user: robot }
  name: broken
clusters:
- cluster:
    certificate-authority-data: Y2E=
    extensions: [{ name: cluster_info, extension: { provider: minikube.sigs.k8s.io } }]
    server: https://10.0.0.1:6443
  name: east
- cluster: { certificate-authority: pki/ca.crt, server: 'https://10.0.0.2:6443' }
  name: west
users:
- name: reader
  user: { client-certificate-data: Y2VydA==, client-key-data: 'a2V5 ' }
- name: robot
  user: { tokenFile: token, token: old }
";

    fn select(text: &str, context: Option<&str>) -> Result<Selected, String> {
        super::select(text, context, Path::new("/etc/leadsman"))
    }

    #[test]
    fn the_current_context_counts_unless_another_is_named() {
        let east = Selected {
            server: "https://10.0.0.1:6443".to_owned(),
            ca: Some(Material::Data(b"ca".to_vec())),
            identity: Some((Material::Data(b"cert".to_vec()), Material::Data(b"key".to_vec()))),
            token: TokenSource::None,
        };
        assert_eq!(select(KUBECONFIG, None), Ok(east));
        let west = Selected {
            server: "https://10.0.0.2:6443".to_owned(),
            ca: Some(Material::File("/etc/leadsman/pki/ca.crt".into())),
            identity: None,
            token: TokenSource::File("/etc/leadsman/token".into()),
        };
        assert_eq!(select(KUBECONFIG, Some("west")), Ok(west));
        assert_eq!(select(KUBECONFIG, Some("open")).unwrap().token, TokenSource::None);
        let inline = KUBECONFIG.replace("tokenFile: token, ", "");
        assert_eq!(
            select(&inline, Some("west")).unwrap().token,
            TokenSource::Inline("old".to_owned())
        );
    }

    #[test]
    fn what_is_missing_or_can_not_be_honoured_is_named() {
        let says = |text: &str, context: Option<&str>| select(text, context).unwrap_err();
        assert_eq!(says(KUBECONFIG, Some("north")), r#"has no context "north""#);
        assert_eq!(says(KUBECONFIG, Some("broken")), r#"has no cluster "nowhere""#);
        assert_eq!(says("contexts: null\n", None), "has no current-context; set `context`");
        let with = |was: &str, is: &str| says(&KUBECONFIG.replace(was, is), Some("west"));
        let robot = "{ tokenFile: token, token: old }";
        assert!(with(robot, "{ exec: { command: aws } }").contains("exec: programs are not run"));
        assert!(with(robot, "{ auth-provider: { name: gcp } }").contains("auth-provider"));
        assert!(with(robot, "{ username: a, password: b }").contains("username"));
        assert!(with(robot, "{ as: root }").contains("as: nobody"));
        assert_eq!(
            with(robot, "{ client-key: k }"),
            "has only one of client-certificate and client-key"
        );
        assert_eq!(
            with(robot, "{ client-key-data: '!' }"),
            "holds client-key-data that is not base64"
        );
        let ca = "certificate-authority: pki/ca.crt,";
        assert!(with(ca, "insecure-skip-tls-verify: true,").contains("insecure-skip-tls-verify"));
        assert!(with(ca, "proxy-url: http://a,").contains("proxy-url"));
        assert!(with(ca, "tls-server-name: a,").contains("tls-server-name"));
        assert_eq!(with("server: 'https://10.0.0.2:6443'", ""), "names no server");
    }

    #[test]
    fn an_error_repeats_nothing_of_the_file() {
        for text in [
            "users: [{ name: a, user: secret }]\n",
            "current-context: [secret\n",
            "secret\n",
            "\0secret",
        ] {
            let error = select(text, None).unwrap_err();
            assert!(
                error.starts_with("is not a kubeconfig") && !error.contains("secret"),
                "{error}"
            );
        }
    }
}
