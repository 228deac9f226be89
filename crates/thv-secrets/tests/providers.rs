//! Choice, fallback, scopes and names that are refused.

use std::sync::Arc;

use thv_core::{Dirs, Env};
use thv_secrets::{
    Configured, EnvironmentSecrets, ExposeSecret, FallbackSecrets, MemorySecrets, Password, ProviderKind,
    Result, Scope, ScopedSecrets, SecretError, SecretProvider, SecretString, UserSecrets, choose, open,
};

fn env(vars: &[(&str, &str)]) -> Env {
    Env::from_vars(vars.iter().copied())
}

fn memory(secrets: &[(&str, &str)]) -> Arc<dyn SecretProvider> {
    Arc::new(secrets.iter().copied().collect::<MemorySecrets>())
}

async fn read(secrets: &dyn SecretProvider, name: &str) -> Result<String> {
    secrets
        .get(name)
        .await
        .map(|value| value.expose_secret().to_owned())
}

#[test]
fn the_variable_beats_the_configuration() {
    let cases = [
        ("", None, false, Err("secrets_not_configured")),
        ("", Some(""), true, Err("secrets_not_configured")),
        ("environment", None, false, Ok(ProviderKind::Environment)),
        ("none", None, false, Ok(ProviderKind::None)),
        ("encrypted", None, false, Err("secrets_not_configured")),
        ("encrypted", None, true, Ok(ProviderKind::Encrypted)),
        (
            "environment",
            Some("encrypted"),
            true,
            Ok(ProviderKind::Environment),
        ),
        ("", Some("encrypted"), true, Ok(ProviderKind::Encrypted)),
        ("", Some("basic"), false, Ok(ProviderKind::Encrypted)),
        ("", Some("1password"), false, Ok(ProviderKind::OnePassword)),
        ("vault", Some("encrypted"), true, Err("secrets_provider_unknown")),
        ("", Some("vault"), true, Err("secrets_provider_unknown")),
        ("Environment", None, false, Err("secrets_provider_unknown")),
    ];
    for (variable, provider_type, setup_completed, expected) in cases {
        let env = env(&[("TOOLHIVE_SECRETS_PROVIDER", variable)]);
        let configured = Configured {
            provider_type: provider_type.map(str::to_owned),
            setup_completed,
        };
        let chosen = choose(&env, &configured).map_err(|error| error.code());
        assert_eq!(chosen, expected, "{variable:?} {configured:?}");
    }
}

#[test]
fn a_provider_that_is_not_built_yet_is_named() {
    let kind = ProviderKind::OnePassword;
    let password = Password::given("p".into());
    let error = open(kind, &Env::default(), &Dirs::under("/nowhere"), password).expect_err("not built yet");
    assert_eq!(error.code(), "secrets_provider_not_built_yet");
    assert!(error.to_string().contains(kind.as_str()), "{error}");
}

#[tokio::test]
async fn an_empty_variable_is_no_secret() {
    let secrets = EnvironmentSecrets::new(&env(&[
        ("TOOLHIVE_SECRET_a", ""),
        ("TOOLHIVE_SECRET_", "x"),
        ("b", "x"),
    ]));
    for name in ["a", "", "b"] {
        assert!(
            read(&secrets, name)
                .await
                .is_err_and(|error| error.is_not_found()),
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn the_environment_stands_in_for_what_is_missing_only() {
    let vars = env(&[
        ("TOOLHIVE_SECRET_a", "from env"),
        ("TOOLHIVE_SECRET_b", "from env"),
    ]);
    let secrets = FallbackSecrets::unless_disabled(memory(&[("a", "stored")]), &vars);
    assert_eq!(read(&*secrets, "a").await.expect("a"), "stored");
    assert_eq!(read(&*secrets, "b").await.expect("b"), "from env");
    let missing = read(&*secrets, "c").await.expect_err("nowhere");
    assert_eq!(
        missing.to_string(),
        "secret \"c\" not found by the memory provider"
    );
    assert_eq!(
        secrets.list().await.expect("a listing").len(),
        1,
        "fallback values are not listed"
    );

    let refused = FallbackSecrets::new(
        Arc::new(UserSecrets::new(memory(&[]))),
        &env(&[("TOOLHIVE_SECRET___thv_x", "y")]),
    );
    let error = read(&refused, "__thv_x").await.expect_err("reserved");
    assert_eq!(
        error.code(),
        "secret_reserved",
        "another error than a missing secret stays"
    );
}

#[tokio::test]
async fn the_fallback_can_be_switched_off() {
    let vars = [
        ("TOOLHIVE_SECRET_b", "from env"),
        ("TOOLHIVE_DISABLE_ENV_FALLBACK", "true"),
    ];
    let secrets = FallbackSecrets::unless_disabled(memory(&[]), &env(&vars));
    assert!(
        read(&*secrets, "b")
            .await
            .is_err_and(|error| error.is_not_found())
    );
}

#[tokio::test]
async fn users_do_not_reach_the_systems_secrets() {
    let secrets = UserSecrets::new(memory(&[("__thv_workloads_x", "system"), ("x", "user")]));
    let reserved =
        |result: Result<()>| result.is_err_and(|error| matches!(error, SecretError::Reserved { .. }));
    assert!(reserved(read(&secrets, "__thv_workloads_x").await.map(drop)));
    assert!(reserved(secrets.set("__thv_x", SecretString::from("v")).await));
    assert!(reserved(secrets.delete("__thv_workloads_x").await));
    let names: Vec<_> = secrets
        .list()
        .await
        .expect("a listing")
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, ["x"]);
}

#[tokio::test]
async fn a_scope_reads_bare_names_and_writes_its_own() {
    let store = memory(&[("old", "bare"), ("__thv_auth_k", "other scope")]);
    let secrets = ScopedSecrets::new(Arc::clone(&store), Scope::Workloads);
    assert_eq!(read(&secrets, "old").await.expect("an older version's"), "bare");
    secrets
        .set("old", SecretString::from("scoped"))
        .await
        .expect("set");
    assert_eq!(read(&secrets, "old").await.expect("scoped"), "scoped");
    assert_eq!(
        read(&*store, "__thv_workloads_old").await.expect("stored"),
        "scoped"
    );
    assert_eq!(read(&*store, "old").await.expect("untouched"), "bare");
    secrets.delete("old").await.expect("deleted");
    assert!(
        secrets
            .delete("old")
            .await
            .is_err_and(|error| error.is_not_found()),
        "the bare one is not deleted"
    );
    let other = read(&secrets, "__thv_auth_k").await.expect_err("another scope's");
    assert_eq!(
        other.to_string(),
        "secret \"__thv_auth_k\" not found by the memory provider"
    );
}

#[test]
fn a_hostile_name_does_no_harm_in_a_message() {
    let name = format!("\u{1b}[2J{}", "x".repeat(500));
    let error = SecretError::NotFound {
        name,
        provider: "memory",
    }
    .to_string();
    assert!(!error.contains('\u{1b}') && error.len() < 200, "{error}");
}
