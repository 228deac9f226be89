//! `thv rm`.

use thv::manager::StopOptions;

use super::{Done, manager, names, results};
use crate::cli::RmArgs;
use crate::output::{json, progress};

pub(super) async fn run(args: &RmArgs) -> Done {
    let manager = manager()?;
    let names = names::chosen(&manager, &args.names, args.group.as_ref()).await?;
    let options = StopOptions {
        force: args.force,
        ..StopOptions::default()
    };
    let what = format!("removing {}", names.join(", "));
    let removed = progress::during(&what, manager.delete_all(names, options).into_future()).await;
    results::write(&removed, args.format, |()| {
        json::Object::default().with("removed", true)
    })
}
