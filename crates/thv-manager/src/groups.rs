//! Groups: created, listed, deleted; and workloads that change theirs. Which group a workload is in, its run configuration
//! says and nothing else.

use std::sync::Arc;

use thv_core::gojson::{self, Json};
use thv_core::{GroupName, WorkloadName};
use thv_state::{DocumentKind, DocumentName, Keep, StateStoreExt};
use thv_status::{OpGuard, Operation};

use crate::launch::Launchable;
use crate::parts::keep;
use crate::supervisor::with_causes;
use crate::{Batch, BatchResult, Error, Manager, Result, StopOptions};

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// The programs that are told of its workloads.
    pub registered_clients: Vec<String>,
}

/// The answer of [`Manager::groups`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupList {
    /// The groups in the order of their names; `default` is always among them.
    pub groups: Vec<Group>,
    /// Files that could not be read, one line each.
    pub warnings: Vec<String>,
}

/// What becomes of the workloads of a group that is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupMembers {
    /// They go to the group `default`, and run on.
    #[default]
    Move,
    /// They are stopped and deleted.
    Delete,
}

/// What came of the deletion of a group.
#[derive(Debug)]
#[non_exhaustive]
pub struct DeletedGroup {
    /// What came of each of its workloads.
    pub workloads: Vec<BatchResult<()>>,
    /// Whether the group is gone: it stays when one of its workloads does.
    pub deleted: bool,
}

impl Manager {
    /// All groups. Nothing is written.
    ///
    /// # Errors
    /// `State` when their folder cannot be read; of one that cannot be read itself there is a warning.
    pub async fn groups(&self) -> Result<GroupList> {
        let mut list = GroupList::default();
        let state = self.parts.state.clone();
        let read = move |name: &DocumentName, document: thv_state::Result<Arc<[u8]>>| {
            parse(name, &document?).map_err(|why| state.invalid(DocumentKind::Group, name, why))
        };
        for (_, group) in self.parts.state.read_each(DocumentKind::Group, read).await? {
            match group {
                Ok(group) => list.groups.push(group),
                Err(error) => list.warnings.push(with_causes(&error.into())),
            }
        }
        let default = GroupName::default();
        if !list.groups.iter().any(|group| group.name == default) {
            list.groups.push(Group {
                name: default,
                registered_clients: Vec::new(),
            });
        }
        list.groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    /// Creates a group.
    ///
    /// # Errors
    /// `GroupExists`; of several at once exactly one succeeds.
    pub async fn create_group(&self, name: &GroupName) -> Result<()> {
        let exists = || Error::GroupExists {
            group: name.to_string(),
        };
        if *name == GroupName::default() {
            return Err(exists());
        }
        let created = self
            .parts
            .state
            .create(
                DocumentKind::Group,
                &document(name)?,
                new_file(name)?,
                Keep::nothing(),
            )
            .await;
        match created {
            Err(thv_state::Error::Exists { .. }) => Err(exists()),
            other => Ok(other?),
        }
    }

    /// The workloads of a group, in the order of their names; a run configuration that cannot be read is in none.
    ///
    /// # Errors
    /// `State` when the folder of configurations cannot be read.
    pub async fn workloads_in_group(&self, group: &GroupName) -> Result<Vec<String>> {
        let configs = self.configs().await?;
        let mut names: Vec<_> = configs
            .into_iter()
            .filter(|(_, config)| config.as_ref().is_ok_and(|config| config.group == group.as_str()))
            .map(|(name, _)| name)
            .collect();
        names.sort();
        Ok(names)
    }

    /// Deletes a group after its workloads have left it. Cut off, it is done again: what has left stays so.
    ///
    /// # Errors
    /// `GroupNotFound` when there is no such group and no workload says that it is in it; `Invalid` for `default`.
    pub async fn delete_group(&self, name: &GroupName, members: GroupMembers) -> Result<DeletedGroup> {
        if *name == GroupName::default() {
            return Err(Error::Invalid {
                what: "group".into(),
                detail: "the group \"default\" always exists".into(),
            });
        }
        let state = &self.parts.state;
        let document = document(name)?;
        let mut workloads = self.empty_group(name, members).await?;
        let there = state.read(DocumentKind::Group, &document).await?.is_some();
        if !there && workloads.is_empty() {
            return Err(Error::GroupNotFound {
                group: name.to_string(),
            });
        }
        if workloads.iter().any(|one| one.result.is_err()) {
            return Ok(DeletedGroup {
                workloads,
                deleted: false,
            });
        }
        thv_process::crash_point!(GroupEmptied);
        state
            .delete(DocumentKind::Group, &document, Keep::nothing())
            .await?;
        thv_process::crash_point!(GroupDeleted);
        // What came in meanwhile was not asked about: it goes on in `default`.
        workloads.extend(self.empty_group(name, GroupMembers::Move).await?);
        Ok(DeletedGroup {
            workloads,
            deleted: true,
        })
    }

    async fn empty_group(&self, group: &GroupName, members: GroupMembers) -> Result<Vec<BatchResult<()>>> {
        let names = self.workloads_in_group(group).await?;
        Ok(match members {
            GroupMembers::Delete => self.delete_all(names, StopOptions::default()).await,
            GroupMembers::Move => {
                let (manager, from) = (self.clone(), group.clone());
                let moved = Batch::of_names("move", names, move |name| {
                    let (manager, from) = (manager.clone(), from.clone());
                    async move {
                        let name = WorkloadName::new(name)?;
                        let to = GroupName::default();
                        match manager.regroup(&name, Some(&from), &to).await {
                            // It left by being deleted.
                            Err(Error::NotFound { .. }) => Ok(()),
                            other => other.map(drop),
                        }
                    }
                });
                moved.await
            }
        })
    }

    /// Moves a workload to another group; `false` when it is there already. It runs on: nothing but its run configuration
    /// changes, by one rename.
    ///
    /// # Errors
    /// `GroupNotFound`, `NotFound`; `Conflict` while an update is tried that may yet be taken back.
    #[tracing::instrument(skip_all, fields(workload = %name))]
    pub async fn move_to_group(&self, name: &WorkloadName, group: &GroupName) -> Result<bool> {
        self.existing_group(group).await?;
        let moved = self.regroup(name, None, group).await?;
        if moved && self.existing_group(group).await.is_err() {
            // Whoever deleted the group may have looked for its workloads before this one came.
            self.regroup(name, Some(group), &GroupName::default()).await?;
            self.existing_group(group).await?;
        }
        Ok(moved)
    }

    /// Moves each of `names` to another group.
    pub fn move_all_to_group(&self, names: Vec<String>, group: &GroupName) -> Batch<bool> {
        let (manager, group) = (self.clone(), group.clone());
        Batch::of_names("move", names, move |name| {
            let (manager, group) = (manager.clone(), group.clone());
            async move { manager.move_to_group(&WorkloadName::new(name)?, &group).await }
        })
    }

    async fn regroup(&self, name: &WorkloadName, from: Option<&GroupName>, to: &GroupName) -> Result<bool> {
        let parts = &self.parts;
        let op = self.lock(name, Operation::Move).await?;
        let snapshot = parts.status.read(name).await?;
        if snapshot.companion.is_some_and(|c| c.previous.is_some()) {
            return Err(Error::Conflict {
                name: name.to_string(),
                detail: "an update is being tried, and would take its old group along if it fails".into(),
            });
        }
        let Some(mut config) = parts.state.read_run_config(name).await? else {
            return Err(Error::NotFound {
                name: name.to_string(),
            });
        };
        if config.group == to.as_str() || from.is_some_and(|from| config.group != from.as_str()) {
            return Ok(false);
        }
        to.as_str().clone_into(&mut config.group);
        parts
            .state
            .write_run_config_under(name, &config, keep(&op))
            .await?;
        thv_process::crash_point!(MoveSaved);
        Ok(true)
    }

    /// What was just saved may be in a group that was deleted since that was checked, by somebody who looked for its
    /// workloads before this one came: then it goes on in `default`, as those do that were found.
    pub(crate) async fn in_a_group(&self, mut what: Launchable, op: &OpGuard) -> Launchable {
        let Err(Error::GroupNotFound { .. }) = self.check_group(&what.config.group).await else {
            return what;
        };
        tracing::warn!(
            group = what.config.group,
            "the group was deleted meanwhile: it is in \"default\" now"
        );
        GroupName::default().as_str().clone_into(&mut what.config.group);
        let state = &self.parts.state;
        let written = state.write_run_config_under(&what.name, &what.config, keep(op));
        if let Err(error) = written.await {
            tracing::warn!(%error, "it could not be taken out of its group");
        }
        what
    }

    async fn existing_group(&self, group: &GroupName) -> Result<()> {
        if *group == GroupName::default() {
            return Ok(());
        }
        let document = document(group)?;
        match self.parts.state.read(DocumentKind::Group, &document).await? {
            Some(_) => Ok(()),
            None => Err(Error::GroupNotFound {
                group: group.to_string(),
            }),
        }
    }
}

/// The whole file of a group that nobody is registered with.
fn new_file(name: &GroupName) -> Result<Vec<u8>> {
    let none: Json = std::iter::empty::<Json>().collect();
    let file: Json = [
        ("name".to_owned(), Json::from(name.as_str())),
        ("registered_clients".to_owned(), none),
    ]
    .into_iter()
    .collect();
    let text = gojson::to_string_pretty(&file).map_err(|error| Error::Invalid {
        what: format!("group \"{name}\""),
        detail: error.to_string(),
    })?;
    Ok((text + "\n").into_bytes())
}

fn document(name: &GroupName) -> Result<DocumentName> {
    DocumentName::new(name.as_str()).map_err(|error| Error::Invalid {
        what: format!("group \"{name}\""),
        detail: error.to_string(),
    })
}

/// What a group's file says. The file's name counts, as in ToolHive's reads.
fn parse(name: &DocumentName, bytes: &[u8]) -> Result<Group, String> {
    #[derive(serde::Deserialize)]
    struct File {
        #[serde(default)]
        registered_clients: Option<Vec<String>>,
    }
    let file: File = serde_json::from_slice(bytes).map_err(|error| gojson::trouble(&error))?;
    Ok(Group {
        name: GroupName::new(name.as_str()).map_err(|error| error.to_string())?,
        registered_clients: file.registered_clients.unwrap_or_default(),
    })
}
