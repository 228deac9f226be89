use std::collections::BTreeMap;

use thv_core::{Dirs, Env};

use super::*;

/// Paths and what is in them; sockets are empty.
struct Files(BTreeMap<PathBuf, &'static str>);

impl Files {
    fn sockets(paths: &[&'static str]) -> Self {
        Self(paths.iter().map(|path| (PathBuf::from(path), "")).collect())
    }
}

impl Probe for Files {
    fn look(&self, path: &Path) -> Seen {
        if path.starts_with("/var/run/podman") || path.starts_with("/hidden") {
            Seen::Hidden
        } else if self.0.contains_key(path) {
            Seen::There
        } else {
            Seen::Absent
        }
    }
    fn entries(&self, folder: &Path) -> Vec<PathBuf> {
        let below = |file: &PathBuf| Some(folder.join(file.strip_prefix(folder).ok()?.components().next()?));
        let mut entries: Vec<_> = self.0.keys().filter_map(below).collect();
        entries.dedup();
        entries
    }
    fn read(&self, file: &Path) -> Option<Result<String, String>> {
        self.0.get(file).map(|text| Ok((*text).to_owned()))
    }
}

fn check(vars: &[(&str, &str)], files: &[&'static str], tried: &[&str], refused: &[(&str, &str)]) {
    check_in(&Files::sockets(files), vars, tried, refused);
}

fn check_in(files: &Files, vars: &[(&str, &str)], tried: &[&str], refused: &[(&str, &str)]) {
    let env = Env::from_vars(vars.iter().copied());
    let config = DockerConfig::discover(env, Dirs::under("/r")).unwrap();
    let found = discover(&config, files);
    let paths: Vec<_> = found.candidates.iter().map(|c| c.address.to_string()).collect();
    assert_eq!(paths, tried, "{vars:?} {:?}", files.0);
    for (place, reason) in refused {
        assert!(
            found
                .refused
                .iter()
                .any(|r| r.place == *place && r.reason.contains(reason)),
            "{place} is not refused with {reason:?}: {:?}",
            found.refused
        );
    }
}

#[test]
fn the_search_follows_the_documented_order() {
    let all = [
        "/r/home/.colima/default/docker.sock",
        "/r/home/.orbstack/run/docker.sock",
        "/var/run/docker.sock",
        "/r/tmp/podman/x-api.sock",
        "/r/tmp/podman/other.sock",
        "/r/run/podman/podman.sock",
    ];
    let in_order = [
        "/r/run/podman/podman.sock",
        "/r/tmp/podman/x-api.sock",
        "/var/run/docker.sock",
        "/r/home/.orbstack/run/docker.sock",
        "/r/home/.colima/default/docker.sock",
    ];
    check(
        &[],
        &all,
        &in_order,
        &[("/r/home/.rd/docker.sock", "no such file")],
    );
    check(&[], &[], &[], &[("/var/run/docker.sock", "no such file")]);
}

#[test]
fn a_folder_that_is_closed_to_this_user_is_tried_only_if_it_was_named() {
    let closed = [("/var/run/podman/podman.sock", "may not look")];
    check(&[], &[], &[], &closed);
    check(&[], &["/var/run/docker.sock"], &["/var/run/docker.sock"], &closed);
    check(
        &[("TOOLHIVE_PODMAN_SOCKET", "/hidden/p")],
        &[],
        &["/hidden/p"],
        &[],
    );
}

#[test]
fn a_variable_that_is_no_text_is_not_ignored() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let files = Files::sockets(&["/var/run/docker.sock", "/h"]);
    let sockets = [
        "TOOLHIVE_PODMAN_SOCKET",
        "TOOLHIVE_DOCKER_SOCKET",
        "TOOLHIVE_COLIMA_SOCKET",
    ];
    for variable in sockets.into_iter().chain(DOCKERS) {
        let vars = [
            (variable, OsStr::from_bytes(b"unix:///h\xff")),
            ("DOCKER_HOST", OsStr::new("unix:///h")),
        ];
        let vars = vars
            .into_iter()
            .take(if variable == "DOCKER_HOST" { 1 } else { 2 });
        let config = DockerConfig::discover(Env::from_vars(vars), Dirs::under("/r")).unwrap();
        let found = discover(&config, &files);
        assert_eq!(found.candidates, [], "{variable}");
        let refused = [Refused {
            place: variable.to_owned(),
            reason: "its value is not UTF-8".to_owned(),
        }];
        assert_eq!(found.refused, refused);
    }
}

#[test]
fn a_place_that_the_user_names_is_the_only_one() {
    let files = ["/var/run/docker.sock", "/p", "/d", "/c", "/h"];
    check(
        &[("TOOLHIVE_COLIMA_SOCKET", "/c"), ("DOCKER_HOST", "unix:///h")],
        &files,
        &["/c"],
        &[],
    );
    check(
        &[("TOOLHIVE_COLIMA_SOCKET", "/c"), ("TOOLHIVE_PODMAN_SOCKET", "/p")],
        &files,
        &["/p"],
        &[],
    );
    check(&[("DOCKER_HOST", "unix:///h")], &files, &["/h"], &[]);
    check(&[("DOCKER_HOST", "")], &files, &["/var/run/docker.sock"], &[]);
    check(
        &[("TOOLHIVE_DOCKER_SOCKET", "/gone")],
        &files,
        &[],
        &[("/gone", "no such file")],
    );
    check(
        &[("TOOLHIVE_DOCKER_SOCKET", "d")],
        &files,
        &[],
        &[("d", "absolute")],
    );
    let far = [("DOCKER_HOST", "tcp://user:hunter2@far:2376")];
    check(
        &far,
        &files,
        &[],
        &[("tcp://… from DOCKER_HOST", "no user and password")],
    );
    check(
        &[("DOCKER_HOST", "fd://x")],
        &files,
        &[],
        &[("fd://… from DOCKER_HOST", "only unix:// and tcp://")],
    );
    check(
        &[("DOCKER_HOST", "ssh://far")],
        &files,
        &[],
        &[("ssh://… from DOCKER_HOST", "forward its socket")],
    );
    check(
        &[("DOCKER_HOST", "far:2375")],
        &files,
        &[],
        &[("://… from DOCKER_HOST", "not of the form")],
    );
}

#[test]
fn a_tcp_engine_is_tried_with_the_certificates_that_docker_would_use() {
    let found = |vars: &[(&str, &str)]| {
        let env = Env::from_vars(vars.iter().copied());
        let config = DockerConfig::discover(env, Dirs::under("/r")).unwrap();
        discover(&config, &Files::sockets(&["/var/run/docker.sock"]))
    };
    let far = ("DOCKER_HOST", "tcp://far.test");
    let verify = ("DOCKER_TLS_VERIFY", "1");
    let at = |port, folder: &str| Address::Tcp {
        host: "far.test".to_owned(),
        port,
        tls: Some(Material::required_in(Path::new(folder))),
    };
    for (vars, address) in [
        (&[far, verify][..], at(2376, "/r/home/.docker")),
        (&[far, verify, ("DOCKER_CONFIG", "/other")], at(2376, "/other")),
        (&[far, verify, ("DOCKER_CERT_PATH", "/certs")], at(2376, "/certs")),
        // Docker would not look at who is there; this does.
        (&[far, ("DOCKER_CERT_PATH", "/certs")], at(2376, "/certs")),
        (
            &[
                ("DOCKER_HOST", "tcp://far.test:99"),
                verify,
                ("DOCKER_CERT_PATH", "/certs"),
            ],
            at(99, "/certs"),
        ),
        (
            &[("DOCKER_HOST", "tcp://127.0.0.1")],
            Address::Tcp {
                host: "127.0.0.1".to_owned(),
                port: 2375,
                tls: None,
            },
        ),
    ] {
        let found = found(vars);
        let addresses: Vec<_> = found.candidates.iter().map(|c| &c.address).collect();
        assert_eq!(addresses, [&address], "{vars:?} {:?}", found.refused);
    }
    for (vars, reason) in [
        (&[far][..], "DOCKER_TLS_VERIFY=1"),
        (&[far, ("DOCKER_TLS", "1")], "set DOCKER_TLS_VERIFY instead"),
        (&[far, ("DOCKER_CERT_PATH", "certs")], "not an absolute path"),
    ] {
        let found = found(vars);
        assert!(found.candidates.is_empty(), "{vars:?}");
        assert!(
            found.refused[0].reason.contains(reason),
            "{vars:?} {:?}",
            found.refused
        );
    }
}

#[test]
fn a_context_brings_its_own_certificates() {
    let folder = Path::new("/r/home/.docker/contexts/tls").join(context::digest("secure"));
    let mut files = Files::sockets(&["/var/run/docker.sock"]);
    for (file, text) in [
        ("config.json", r#"{"currentContext":"secure"}"#),
        (
            "contexts/meta/1/meta.json",
            r#"{"Name":"secure","Endpoints":{"docker":{"Host":"tcp://far.test:2376"}}}"#,
        ),
        (
            "contexts/meta/2/meta.json",
            r#"{"Name":"blind","Endpoints":{"docker":{"Host":"tcp://far.test:2376","SkipTLSVerify":true}}}"#,
        ),
    ] {
        files.0.insert(Path::new("/r/home/.docker").join(file), text);
    }
    files.0.insert(folder.join("docker/ca.pem"), "");
    let config = DockerConfig::discover(Env::default(), Dirs::under("/r")).unwrap();
    let found = discover(&config, &files);
    let address = Address::Tcp {
        host: "far.test".to_owned(),
        port: 2376,
        tls: Some(Material::in_context(&folder.join("docker"))),
    };
    assert_eq!(found.candidates[0].address, address);
    // One that does not look at who is there is refused, and so is one without certificates.
    check_in(
        &files,
        &[("DOCKER_CONTEXT", "blind")],
        &[],
        &[(r#"tcp://… from Docker's context "blind""#, "SkipTLSVerify")],
    );
    files.0.remove(&folder.join("docker/ca.pem"));
    check_in(
        &files,
        &[],
        &[],
        &[(r#"tcp://… from Docker's context "secure""#, "DOCKER_TLS_VERIFY")],
    );
}

/// What the configuration file says, the variables, what is tried, what is refused and why.
type Row = (&'static str, Pairs, &'static [&'static str], Pairs);
type Pairs = &'static [(&'static str, &'static str)];

/// A home whose user chose a context, with an engine in the usual place too.
fn home_with(chosen: &'static str) -> Files {
    let mut files = Files::sockets(&["/var/run/docker.sock", "/desk.sock", "/h", "/elsewhere.sock"]);
    for (file, text) in [
        ("/r/home/.docker/config.json", chosen),
        (
            "/r/home/.docker/contexts/meta/00aa/meta.json",
            r#"{"Name":"desktop","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///desk.sock","SkipTLSVerify":false}}}"#,
        ),
        (
            "/r/home/.docker/contexts/meta/01/meta.json",
            r#"{"Name":"far","Endpoints":{"docker":{"Host":"ssh://me:hunter2@far"}}}"#,
        ),
        (
            "/r/home/.docker/contexts/meta/02/meta.json",
            r#"{"Name":"empty"}"#,
        ),
        ("/r/home/.docker/contexts/meta/03/meta.json", "{"),
        ("/other/config.json", r#"{"currentContext":"mine"}"#),
        (
            "/other/contexts/meta/x/meta.json",
            r#"{"Name":"mine","Endpoints":{"docker":{"Host":"unix:///elsewhere.sock"}}}"#,
        ),
    ] {
        files.0.insert(file.into(), text);
    }
    files
}

#[test]
fn the_active_context_of_docker_is_the_only_place_unless_something_else_is_named() {
    let rows: [Row; 13] = [
        (
            r#"{"auths":{},"currentContext":"desktop"}"#,
            &[],
            &["/desk.sock"],
            &[],
        ),
        ("{}", &[], &["/var/run/docker.sock"], &[]),
        (
            r#"{"currentContext":"default"}"#,
            &[],
            &["/var/run/docker.sock"],
            &[],
        ),
        (r#"{"currentContext":""}"#, &[], &["/var/run/docker.sock"], &[]),
        (
            r#"{"currentContext":"gone"}"#,
            &[],
            &[],
            &[(r#"Docker's context "gone""#, "no such context")],
        ),
        (
            r#"{"currentContext":"empty"}"#,
            &[],
            &[],
            &[(r#"Docker's context "empty""#, "names no engine")],
        ),
        (
            r#"{"currentContext":"far"}"#,
            &[],
            &[],
            &[(r#"ssh://… from Docker's context "far""#, "forward its socket")],
        ),
        (
            "not json",
            &[],
            &["/var/run/docker.sock"],
            &[("/r/home/.docker/config.json", "expected")],
        ),
        ("{}", &[("DOCKER_CONTEXT", "desktop")], &["/desk.sock"], &[]),
        (
            r#"{"currentContext":"desktop"}"#,
            &[("DOCKER_CONTEXT", "default")],
            &["/var/run/docker.sock"],
            &[],
        ),
        (
            r#"{"currentContext":"desktop"}"#,
            &[("DOCKER_HOST", "unix:///h"), ("DOCKER_CONTEXT", "desktop")],
            &["/h"],
            &[],
        ),
        (
            r#"{"currentContext":"desktop"}"#,
            &[("TOOLHIVE_DOCKER_SOCKET", "/h")],
            &["/h"],
            &[],
        ),
        ("{}", &[("DOCKER_CONFIG", "/other")], &["/elsewhere.sock"], &[]),
    ];
    for (chosen, vars, tried, refused) in rows {
        check_in(&home_with(chosen), vars, tried, refused);
    }
}

#[test]
fn a_configured_socket_wins_over_everything() {
    let mut config = DockerConfig::at("/mine");
    config.env = Env::from_vars([("DOCKER_HOST", "unix:///h")]);
    let found = discover(&config, &Files::sockets(&["/mine", "/h"]));
    assert_eq!(found.candidates[0].address, Address::Socket("/mine".into()));
    assert_eq!(found.candidates.len(), 1);
}
