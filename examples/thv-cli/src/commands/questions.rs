//! What a registry entry needs, asked of a person where there is one.

use std::fmt::Write as _;

use thv::manager::{EntryPlan, LookUp, Manager, MissingValue, RunRequest, may_be_entry};
use thv::secrets::SecretString;

use super::Failure;
use super::registry::{registry, visible};
use crate::output::{note, progress, prompt};

/// The request, completed by the registry entry that its server names, if it names one.
pub(super) async fn completed(
    manager: &Manager,
    request: RunRequest,
    accept_permissions: bool,
) -> Result<RunRequest, Failure> {
    if !may_be_entry(&request.server) {
        return Ok(request);
    }
    let registry = registry()?;
    let what = format!("looking for {}", request.server);
    let found = progress::during(&what, manager.look_up(request, &*registry)).await?;
    let mut plan = match found {
        LookUp::Entry(plan) => *plan,
        LookUp::Other(request) => return Ok(*request),
    };
    if prompt::has_somebody_to_ask() {
        ask_for_values(manager, &mut plan).await?;
    }
    if accept_permissions {
        plan.accept_permissions();
    } else if !plan.grants().is_empty() && plan.missing().is_empty() && prompt::has_somebody_to_ask() {
        ask_for_permissions(&mut plan).await?;
    }
    Ok(plan.into_request()?)
}

/// Asks for all that is missing and can be kept; what remains is the error's matter.
async fn ask_for_values(manager: &Manager, plan: &mut EntryPlan) -> Result<(), Failure> {
    let missing = plan.missing().to_vec();
    let can_be_kept = |value: &MissingValue| !value.secret || (manager.keeps_secrets() && !value.header);
    if missing.is_empty() || !missing.iter().all(can_be_kept) {
        return Ok(());
    }
    for value in missing {
        let answer = prompt::ask(&question(&value), value.secret).await?;
        if answer.is_empty() {
            return Ok(());
        }
        if value.secret {
            let answer = SecretString::from(answer);
            manager.keep_missing_secret(plan, &value.name, answer).await?;
        } else {
            plan.supply(&value.name, &answer)?;
        }
    }
    Ok(())
}

/// A value by its name, with what it is for.
pub(super) fn named(name: &str, description: &str) -> String {
    let mut text = visible(name);
    if !description.is_empty() {
        let _ = write!(text, " ({})", visible(description));
    }
    text
}

fn question(value: &MissingValue) -> String {
    let mut text = named(&value.name, &value.description);
    if !value.choices.is_empty() {
        let _ = write!(text, " [{}]", visible(&value.choices.join(", ")));
    }
    text + ": "
}

async fn ask_for_permissions(plan: &mut EntryPlan) -> Result<(), Failure> {
    note(&format!("\"{}\" asks for:", plan.entry().name()));
    for grant in plan.grants() {
        note(&format!("  {}", visible(grant)));
    }
    let answer = prompt::ask("Grant this? [y/N]: ", false).await?;
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        plan.accept_permissions();
    }
    Ok(())
}
