//! Reading real directories, without a watch.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const GOOD: &str = "service: good\nendpoints: []\n";

#[test]
fn only_visible_yaml_files_are_read() {
    let directory = TempDir::new().unwrap();
    for name in ["a.yaml", "b.yml", ".c.yaml", "d.yaml~", "e.json", "..data"] {
        put(&directory, name, GOOD);
    }
    let scan = scan_all(&directory, &Files::new());
    let names: Vec<_> = scan.files.keys().map(String::as_str).collect();
    assert_eq!(names, ["a.yaml", "b.yml"]);
    assert_eq!(scan.impairment(), None);
}

#[test]
fn a_broken_file_does_not_stop_the_others_and_each_is_reported() {
    let directory = TempDir::new().unwrap();
    put(&directory, "a.yaml", "service: a\nendpoints: }\n");
    put(&directory, "b.yaml", GOOD);
    put(&directory, "c.yaml", "");
    put(&directory, "d.yaml", "service: d\nendpoint: []\n");
    fs::write(directory.path().join("e.yaml"), b"service: a\nx: \xff").unwrap();
    symlink("nowhere", directory.path().join("f.yaml")).unwrap();
    fs::create_dir(directory.path().join("g.yaml")).unwrap();

    let scan = scan_all(&directory, &Files::new());
    let understood: Vec<_> = scan.files.iter().filter(|(_, state)| state.content.is_some()).collect();
    assert_eq!(understood.len(), 1);
    let impairment = scan.impairment().unwrap();
    let parts: Vec<_> = impairment.split("; ").collect();
    assert!(parts[0].starts_with("a.yaml:2:12: "), "{impairment}");
    assert_eq!(
        parts[1..],
        [
            "c.yaml: the file is empty",
            "delete the file to remove its services",
            "d.yaml:2:1: unknown key `endpoint`, did you mean `endpoints`?",
            "e.yaml:2:4: not UTF-8",
            "save the file in that encoding",
            "f.yaml: the link leads nowhere, or the name is not UTF-8",
            "mend it or delete it",
            "g.yaml: not a regular file",
            "move it elsewhere or rename it",
        ]
    );
}

#[test]
fn a_broken_file_keeps_its_last_good_content() {
    let directory = TempDir::new().unwrap();
    put(&directory, "a.yaml", GOOD);
    let good = scan_all(&directory, &Files::new());
    for broken in ["service: [", "", "# nothing\n", "service: a\nendpoints:\n"] {
        put(&directory, "a.yaml", broken);
        let scan = scan_all(&directory, &good.files);
        let (before, after) = (&good.files["a.yaml"].content, &scan.files["a.yaml"].content);
        assert!(Arc::ptr_eq(before.as_ref().unwrap(), after.as_ref().unwrap()));
        assert!(scan.impairment().is_some(), "{broken:?}");
    }
    put(&directory, "a.yaml", GOOD);
    assert_eq!(scan_all(&directory, &good.files).impairment(), None);
}

#[test]
fn a_file_is_too_large_beyond_sixteen_mebibytes() {
    let directory = TempDir::new().unwrap();
    put(&directory, "a.yaml", GOOD);
    let file = fs::File::create(directory.path().join("b.yaml")).unwrap();
    file.set_len(MAX_FILE_BYTES + 1).unwrap();
    let scan = scan_all(&directory, &Files::new());
    assert_eq!(
        scan.impairment().unwrap(),
        "b.yaml: 16777217 bytes, the limit is 16777216; split the file"
    );
    assert!(scan.files["a.yaml"].content.is_some());
}

#[test]
fn files_beyond_the_limit_are_counted_and_those_read_before_are_kept() {
    let directory = TempDir::new().unwrap();
    put(&directory, "z.yaml", GOOD);
    let before = scan_all(&directory, &Files::new());
    for number in 0..MAX_FILES {
        put(&directory, &format!("{number:05}.yaml"), "# nothing\n");
    }
    let scan = scan_all(&directory, &before.files);
    assert!(scan.files["z.yaml"].content.is_some());
    let impairment = scan.impairment().unwrap();
    let end = "and 9984 more files; 1 files beyond the first 10000 are not read; put several services into one file";
    assert!(impairment.ends_with(end), "{impairment}");
    assert!(impairment.len() < 4096);
}

#[test]
fn a_settled_file_is_read_again_only_when_it_looks_changed_or_was_announced() {
    let directory = TempDir::new().unwrap();
    put(&directory, "a.yaml", GOOD);
    let mut first = scan_all(&directory, &Files::new());
    let content = |scan: &Scan| Arc::clone(scan.files["a.yaml"].content.as_ref().unwrap());

    // The file has just been written, so the first scan does not trust its fingerprint.
    assert_eq!(first.files["a.yaml"].seen, None);
    assert!(!Arc::ptr_eq(
        &content(&first),
        &content(&scan_all(&directory, &first.files))
    ));

    let metadata = fs::metadata(directory.path().join("a.yaml")).unwrap();
    first.files.get_mut("a.yaml").unwrap().seen = Some(Fingerprint::new(&metadata));
    assert!(Arc::ptr_eq(
        &content(&first),
        &content(&scan_all(&directory, &first.files))
    ));

    let named = Reread::Named(BTreeSet::from(["a.yaml".to_owned()]));
    let again = scan(directory.path(), &first.files, &named).unwrap();
    assert!(!Arc::ptr_eq(&content(&first), &content(&again)));
}

#[test]
fn a_fingerprint_settles_two_seconds_after_the_change() {
    let directory = TempDir::new().unwrap();
    let seen = Fingerprint::new(&fs::metadata(directory.path()).unwrap());
    let changed = UNIX_EPOCH + Duration::from_secs(seen.changed.0.unsigned_abs());
    assert!(!seen.is_settled(changed));
    assert!(!seen.is_settled(changed + Duration::from_secs(2)));
    assert!(seen.is_settled(changed + Duration::from_secs(3)));
    // A clock that was set back must not make every scan read every file.
    assert!(seen.is_settled(changed - Duration::from_secs(3600)));
}

#[test]
fn a_missing_directory_is_unavailable_and_a_file_is_misconfigured() {
    let directory = TempDir::new().unwrap();
    put(&directory, "a.yaml", GOOD);
    let missing = scan(&directory.path().join("none"), &Files::new(), &Reread::Changed);
    assert!(matches!(missing, Err(Error::Unavailable(why)) if why.ends_with("create it or correct `path`")));
    let file = scan(&directory.path().join("a.yaml"), &Files::new(), &Reread::Changed);
    assert!(matches!(file, Err(Error::Misconfigured(why)) if why.contains("not a directory")));
}

fn put(directory: &TempDir, name: &str, text: &str) {
    fs::write(directory.path().join(name), text).unwrap();
}

fn scan_all(directory: &TempDir, known: &Files) -> Scan {
    scan(directory.path(), known, &Reread::Changed).unwrap()
}
