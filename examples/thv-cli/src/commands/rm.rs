//! `thv rm`.

use thv::core::WorkloadName;
use thv::manager::{BatchResult, Error, ListOptions, Manager, StopOptions};

use super::{Done, Failure, manager, names, results};
use crate::cli::RmArgs;
use crate::output::{json, progress};

pub(super) async fn run(args: &RmArgs) -> Done {
    let manager = manager()?;
    check(&manager, &args.names).await?;
    let names = if args.names.is_empty() {
        names::chosen(&manager, &[], args.group.as_ref()).await?
    } else {
        args.names.clone()
    };
    let options = StopOptions {
        force: args.force,
        ..StopOptions::default()
    };
    let removed = remove(&manager, names, options).await;
    results::write(&removed, results::Whom::of(&args.names), args.format, |()| {
        json::Object::default().with("removed", true)
    })
}

/// A name that is none is a mistake at the keyboard, and nothing is touched for the others either; unless an older program
/// allowed it and it is there.
async fn check(manager: &Manager, given: &[String]) -> Result<(), Failure> {
    let misnamed: Vec<_> = given.iter().filter(|name| is_misnamed(name)).collect();
    if misnamed.is_empty() {
        return Ok(());
    }
    let all = ListOptions {
        all: true,
        ..ListOptions::default()
    };
    let known = manager.list(all).await?.workloads;
    for name in misnamed {
        if !known.iter().any(|workload| workload.name == *name) {
            WorkloadName::new(name).map_err(Error::from)?;
        }
    }
    Ok(())
}

fn is_misnamed(name: &str) -> bool {
    WorkloadName::new(name).is_err()
}

/// A result per name, in the order in which they were given.
async fn remove(manager: &Manager, names: Vec<String>, options: StopOptions) -> Vec<BatchResult<()>> {
    let (misnamed, named): (Vec<_>, Vec<_>) = names.iter().cloned().partition(|name| is_misnamed(name));
    let mut removed = progress::during_batch("removing", manager.delete_all(named, options)).await;
    for name in misnamed {
        let result = manager.delete_misnamed(&name).await;
        removed.push(BatchResult { name, result });
    }
    removed.sort_by_key(|one| names.iter().position(|name| *name == one.name));
    removed
}
