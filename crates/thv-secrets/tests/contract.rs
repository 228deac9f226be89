//! Providers and wrappers keep the contract.
#![cfg(feature = "contract")]

use std::sync::Arc;

use thv_core::Env;
use thv_secrets::contract::check;
use thv_secrets::{
    EnvironmentSecrets, FallbackSecrets, MemorySecrets, Scope, ScopedSecrets, SecretProvider, UserSecrets,
};

fn memory(secrets: &[(&str, &str)], prefix: &str) -> Arc<dyn SecretProvider> {
    Arc::new(
        secrets
            .iter()
            .map(|(name, value)| (format!("{prefix}{name}"), *value))
            .collect::<MemorySecrets>(),
    )
}

fn arc(secrets: impl SecretProvider) -> Arc<dyn SecretProvider> {
    Arc::new(secrets)
}

fn environment(secrets: &[(&str, &str)]) -> Env {
    Env::from_vars(
        secrets
            .iter()
            .map(|(name, value)| (format!("TOOLHIVE_SECRET_{name}"), *value)),
    )
}

#[tokio::test]
async fn memory_secrets() {
    check(async |secrets| memory(secrets, "")).await;
}

#[tokio::test]
async fn environment_secrets() {
    check(async |secrets| arc(EnvironmentSecrets::new(&environment(secrets)))).await;
}

#[tokio::test]
async fn user_secrets() {
    check(async |secrets| arc(UserSecrets::new(memory(secrets, "")))).await;
}

#[tokio::test]
async fn scoped_secrets() {
    check(async |secrets| {
        arc(ScopedSecrets::new(
            memory(secrets, "__thv_workloads_"),
            Scope::Workloads,
        ))
    })
    .await;
}

#[tokio::test]
async fn secrets_with_an_empty_environment_behind_them() {
    check(async |secrets| arc(FallbackSecrets::new(memory(secrets, ""), &Env::default()))).await;
}

#[tokio::test]
async fn secrets_of_the_environment_behind_it() {
    let env = |secrets: &[(&str, &str)]| arc(EnvironmentSecrets::new(&environment(secrets)));
    check(async |secrets| arc(FallbackSecrets::new(env(&[]), &environment(secrets)))).await;
}
