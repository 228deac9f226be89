//! What a server may reach: profiles, volumes, isolation.

use super::*;

#[test]
fn a_profile_that_is_only_named_is_looked_up() {
    let files = MemoryFiles::default().with(
        "strict.json",
        r#"{"read": ["data:/d"], "network": {"mode": "none"}}"#,
    );
    let env = Env::default();
    let dirs = Dirs::under("/base");
    let sources = Sources {
        env: &env,
        dirs: &dirs,
        files: &files,
        ports: &MemoryPorts::default(),
    };
    let named = |path: &str| RunConfig {
        permission_profile_name_or_path: path.into(),
        isolate_network: true,
        ..RunConfig::default()
    };
    let mut config = named("strict.json");
    permissions::look_up(&mut config, &sources).unwrap();
    assert_eq!(config.permission_profile_name_or_path, "/here/strict.json");
    assert_eq!(config.permission_profile.unwrap().read, ["/here/data:/d"]);
    assert!(!config.isolate_network, "there is nothing to isolate");
    let error = permissions::look_up(&mut named("gone.json"), &sources).unwrap_err();
    assert!(error.to_string().contains("gone.json"), "{error}");
}

#[test]
fn profiles_are_names_or_files_and_default_to_network() {
    let profile = |text: &str| {
        let request = RunRequest {
            permission_profile: Some(text.into()),
            ..image()
        };
        let files = MemoryFiles::default().with(
            "/here/p.json",
            r#"{"name":"mine","read":["data:/d","/etc/ssl"],"x":1,
                "network":{"outbound":{"insecure_allow_all":true,"x":1},"inbound":{"x":1},"x":1}}"#,
        );
        build_with(&request, &[], files).map(|built| built.config)
    };
    assert_eq!(built(&image()).config.permission_profile_name_or_path, "");
    assert_eq!(
        profile("stdio").unwrap().permission_profile,
        Some(PermissionProfile::none())
    );
    let config = profile("p.json").unwrap();
    assert_eq!(config.permission_profile_name_or_path, "/here/p.json");
    assert!(
        !config.to_json_compact().contains(r#""x""#),
        "what nobody knows is not kept"
    );
    assert_eq!(
        config.permission_profile.unwrap().read,
        ["/here/data:/d", "/etc/ssl"]
    );
    assert!(
        profile("strict")
            .unwrap_err()
            .to_string()
            .contains("use none, network")
    );
}

#[test]
fn volumes_join_the_profile_with_absolute_sources() {
    let files = || {
        MemoryFiles::default()
            .with("/here/data/a", "")
            .with("/base/home/b", "")
    };
    let volumes = |volumes: &[&str]| {
        build_with(
            &RunRequest {
                volumes: strings(volumes),
                ..image()
            },
            &[],
            files(),
        )
    };
    let built = volumes(&["./data:/data:ro", "~/b:/b", "/here/data/a:/data"]).unwrap();
    let profile = built.config.permission_profile.unwrap();
    assert_eq!(built.config.volumes, ["/here/data:/data:ro", "/base/home/b:/b"]);
    assert_eq!(
        (profile.read, profile.write),
        (strings(&["/here/data:/data"]), strings(&["/base/home/b:/b"]))
    );
    assert_eq!(built.notices.len(), 1);
    for text in [
        "/gone:/x",
        "/here/data",
        "/here/data:x",
        "vol://a:/x",
        "/here/data:/x;y",
        "/here/data:/x:z",
    ] {
        assert!(
            volumes(&[text])
                .unwrap_err()
                .to_string()
                .contains("invalid volumes"),
            "{text}"
        );
    }
}

#[test]
fn isolation_is_wanted_by_default_and_required_when_asked_for() {
    let isolation = |asked, network: Option<&str>| {
        let request = RunRequest {
            isolate_network: asked,
            network: network.map(str::to_owned),
            ..image()
        };
        let built = build_with(&request, &[], MemoryFiles::default())?;
        Ok::<_, Error>((
            built.config.isolate_network,
            built.config.requires_isolation(),
            built.notices.len(),
        ))
    };
    assert_eq!(isolation(None, None).unwrap(), (true, false, 0));
    assert_eq!(isolation(Some(true), None).unwrap(), (true, true, 0));
    assert_eq!(isolation(Some(false), None).unwrap(), (false, false, 0));
    assert_eq!(isolation(None, Some("bridge")).unwrap(), (true, false, 0));
    assert_eq!(isolation(None, Some("host")).unwrap(), (false, false, 1));
    assert_eq!(isolation(Some(false), Some("host")).unwrap(), (false, false, 0));
    assert_eq!(isolation(Some(true), Some("none")).unwrap(), (false, false, 0));
    assert!(
        isolation(Some(true), Some("host"))
            .unwrap_err()
            .to_string()
            .contains("isolate_network")
    );
    assert!(isolation(None, Some("a b")).is_err());
}

#[test]
fn a_proxy_that_somebody_has_chosen_for_isolated_networks_and_that_is_not_used_is_named() {
    let env = [
        ("TOOLHIVE_NETWORK_PROXY", ""),
        ("TOOLHIVE_ENVOY_IMAGE", "example.com/strict:1"),
    ];
    for (isolated, expected) in [(true, 1), (false, 0)] {
        let request = RunRequest {
            isolate_network: Some(isolated),
            ..image()
        };
        let built = build_with(&request, &env, MemoryFiles::default()).unwrap();
        assert_eq!(built.notices.len(), expected, "{:?}", built.notices);
        assert!(
            built
                .notices
                .iter()
                .all(|said| said.contains("TOOLHIVE_ENVOY_IMAGE"))
        );
    }
}
