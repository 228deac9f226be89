//! One change of a record and its status file. Pure: bytes in, bytes out.

use sha2::{Digest, Sha256};
use thv_core::gojson::GoTime;
use thv_core::{WorkloadName, WorkloadStatus};

use crate::foreign::desired_of;
use crate::{
    Authority, Change, ClaimId, Companion, Desired, Error, ForeignMeaning, LastStatus, Reading, Result,
    StatusFile, StatusFileHashes, interpret, status_file::StatusFileError,
};

/// What a change works on.
#[derive(Debug)]
#[non_exhaustive]
pub struct Draft {
    /// The record. Claim, desired and journal are set here; revision and hashes are not the change's business.
    pub companion: Companion,
    /// The status file. Its times are not the change's business.
    pub status: StatusFile,
    reading: Reading,
    found_process_id: i64,
    declined: bool,
}

impl Draft {
    /// Whose write the status file was that is changed here.
    pub fn reading(&self) -> Reading {
        self.reading
    }

    /// The pid that the status file has, whoever wrote it. That of a foreign file is not taken over by itself: it may be
    /// anybody's.
    pub fn found_process_id(&self) -> i64 {
        self.found_process_id
    }

    /// Gives the change up: nothing is written, and whoever asked for it gets [`Declined`](crate::Error::Declined).
    pub fn decline(&mut self) {
        self.declined = true;
    }

    /// Leaves the workload to ToolHive, which runs it by now: it should run, and no claim or instance of ours is left.
    pub fn leave_to_toolhive(&mut self) {
        self.companion.desired = Desired::Running;
        self.companion.claim = ClaimId::random();
        self.companion.instance = None;
        self.companion.owner = None;
        self.companion.pending = None;
        self.status.process_id = self.found_process_id;
    }

    /// Sets the status, if the status machine allows it from the one that is there; otherwise the file keeps it. So a
    /// supervisor that ends writes no `stopped` over `removing`.
    pub fn set_status(&mut self, status: WorkloadStatus, context: &str) {
        if !self.status.status.can_become(status) {
            tracing::debug!(from = %self.status.status, to = %status, "the status machine does not allow it");
            return;
        }
        self.force_status(status, context);
    }

    /// Sets the status whatever it is: for a workload that begins anew.
    pub fn force_status(&mut self, status: WorkloadStatus, context: &str) {
        self.status.status = status;
        context.clone_into(&mut self.status.status_context);
    }
}

/// The two files as they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) companion: Option<Companion>,
    pub(crate) status: Option<Vec<u8>>,
    /// Why there is no file where the status file should be, but something else. Its bytes are none then.
    pub(crate) no_status_file: Option<String>,
    /// Why there is a record that cannot be used.
    pub(crate) damage: Option<String>,
}

/// What a read makes of the two files.
pub(crate) struct Read {
    pub(crate) status: Option<StatusFile>,
    /// What is wrong with the record.
    pub(crate) damage: Option<String>,
    /// What is wrong with the status file.
    pub(crate) status_damage: Option<String>,
    pub(crate) reading: Reading,
    /// Whether a stop was asked for after somebody else wrote the status file.
    pub(crate) overruled: bool,
}

/// What the bytes of a status file say.
#[derive(Debug)]
pub(crate) struct StatusText {
    file: Result<StatusFile, StatusFileError>,
    hash: String,
}

impl StatusText {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            file: StatusFile::parse(bytes),
            hash: hash(bytes),
        }
    }

    /// Of what is in the place of a status file and cannot be read.
    pub(crate) fn no_file(why: String) -> Self {
        Self {
            file: Err(StatusFileError(why)),
            hash: hash(&[]),
        }
    }
}

impl Read {
    /// `damage` is the record's.
    pub(crate) fn of(
        companion: Option<&Companion>,
        damage: Option<String>,
        status: Option<&StatusText>,
    ) -> Self {
        let (file, status_damage) = match status.map(|status| &status.file) {
            Some(Ok(file)) => (Some(file.clone()), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, None),
        };
        let hash = status.map(|status| status.hash.as_str());
        let reading = interpret(companion, hash, file.as_ref());
        let last = companion.and_then(|companion| companion.last.as_ref());
        let status = match (reading, last) {
            (Reading::Interrupted, Some(last)) => Some(StatusFile {
                status: last.status,
                status_context: last.context.clone(),
                process_id: last.process_id,
                ..file.unwrap_or_else(|| StatusFile::new(last.status, GoTime::default()))
            }),
            _ => file,
        };
        Self {
            status,
            damage,
            status_damage,
            reading,
            overruled: hash.is_some()
                && companion.is_some_and(|companion| companion.status_file.overruled.as_deref() == hash),
        }
    }
}

impl Stored {
    pub(crate) fn no_status_file(&mut self, why: String) {
        self.status = Some(Vec::new());
        self.no_status_file = Some(why);
    }

    pub(crate) fn read(&self) -> Read {
        self.read_as(self.status_text().as_ref())
    }

    fn status_text(&self) -> Option<StatusText> {
        match &self.no_status_file {
            Some(why) => Some(StatusText::no_file(why.clone())),
            None => self.status.as_deref().map(StatusText::of),
        }
    }

    fn read_as(&self, status: Option<&StatusText>) -> Read {
        Read::of(self.companion.as_ref(), self.damage.clone(), status)
    }

    pub(crate) fn status_is_damaged(&self) -> bool {
        self.status
            .as_deref()
            .is_some_and(|bytes| StatusFile::parse(bytes).is_err())
    }

    /// What anybody but a verb gets where there is no record.
    pub(crate) fn refusal(name: &WorkloadName, authority: Authority<'_>) -> Error {
        match authority {
            Authority::Supervisor(_) => Error::ClaimLost { name: name.clone() },
            Authority::Verb(_) | Authority::StopRequest => Error::NotFound { name: name.clone() },
        }
    }

    /// The files after `change`; the second is none when only the record changes.
    pub(crate) fn apply(
        &self,
        name: &WorkloadName,
        authority: Authority<'_>,
        change: Change,
        now: GoTime,
    ) -> Result<(Companion, Option<Vec<u8>>)> {
        let found = self.status_text();
        let read = self.read_as(found.as_ref());
        let found = found.map(|text| text.hash);
        let mut companion = self.authorised(name, authority, &read)?;
        if matches!(authority, Authority::Verb(_)) && std::mem::take(&mut companion.gives_way) {
            // Nobody else is at work: what it gave way to never came, or is this very verb, which says what it wants.
            companion.desired = Desired::Running;
        }
        let desired = read.reading.desired(companion.desired);
        let mut status = read
            .status
            .unwrap_or_else(|| StatusFile::new(WorkloadStatus::Unknown, now));
        let found_process_id = status.process_id;
        if matches!(read.reading, Reading::Foreign(_)) {
            // A pid that somebody wrote may be a stranger's, and what we write is believed.
            status.process_id = companion.last.as_ref().map_or(0, |last| last.process_id);
        }
        if matches!(authority, Authority::Supervisor(_))
            && read.reading == Reading::Foreign(ForeignMeaning::Other)
            && let Some(last) = &companion.last
        {
            // Who supervises knows better: from another's `error` it could never say again that it runs.
            status.status = last.status;
            status.status_context.clone_from(&last.context);
        }
        let mut draft = Draft {
            companion: Companion { desired, ..companion },
            status,
            reading: read.reading,
            found_process_id,
            declined: false,
        };
        if matches!(authority, Authority::StopRequest) {
            let mut companion = draft.companion.clone();
            change(&mut draft);
            companion.desired = draft.companion.desired;
            companion.stop_grace_ms = draft.companion.stop_grace_ms;
            companion.gives_way = draft.companion.gives_way;
            companion.status_file.overruled = match read.reading {
                Reading::Foreign(_) => found,
                _ => None,
            };
            companion.revision += 1;
            return Ok((companion, None));
        }
        let revision = draft.companion.revision;
        change(&mut draft);
        if draft.declined {
            return Err(Error::Declined { name: name.clone() });
        }
        let Draft {
            mut companion,
            mut status,
            ..
        } = draft;
        if status.created_at.is_zero() {
            status.created_at = now;
        }
        status.updated_at = now;
        let bytes = status.to_bytes();
        companion.revision = revision + 1;
        companion.status_file = StatusFileHashes {
            before: found,
            after: Some(hash(&bytes)),
            overruled: None,
        };
        companion.last = Some(LastStatus {
            status: status.status,
            context: status.status_context,
            process_id: status.process_id,
        });
        Ok((companion, Some(bytes)))
    }

    fn authorised(&self, name: &WorkloadName, authority: Authority<'_>, read: &Read) -> Result<Companion> {
        match (authority, &self.companion) {
            (Authority::Supervisor(claim), Some(companion)) if companion.claim == *claim => {
                Ok(companion.clone())
            }
            (Authority::Supervisor(_), _) | (Authority::StopRequest, None) => {
                Err(Self::refusal(name, authority))
            }
            (Authority::Verb(op), _) if op.name() != name => Err(Error::Conflict {
                name: name.clone(),
                detail: format!("the lock that is held is that of \"{}\"", op.name()),
            }),
            (Authority::Verb(_) | Authority::StopRequest, Some(companion)) => Ok(companion.clone()),
            (Authority::Verb(_), None) => {
                let mut companion = Companion::new(ClaimId::random(), "");
                companion.desired = desired_of(read.status.as_ref());
                Ok(companion)
            }
        }
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn hash(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS[usize::from(digit)]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OpGuard, Operation, Pending};

    fn name() -> WorkloadName {
        WorkloadName::new("fetch").unwrap()
    }

    fn now(second: u8) -> GoTime {
        format!("2026-08-21T10:12:{second:02}Z").parse().unwrap()
    }

    fn verb(stored: &mut Stored, change: impl FnOnce(&mut Draft) + Send + 'static) {
        let op = OpGuard::new(name(), ());
        let (companion, status) = stored
            .apply(&name(), Authority::Verb(&op), Box::new(change), now(1))
            .unwrap();
        *stored = Stored {
            companion: Some(companion),
            status,
            ..Stored::default()
        };
    }

    #[test]
    fn a_crash_between_record_and_status_file_is_healed_by_the_record() {
        let mut stored = Stored::default();
        verb(&mut stored, |draft| {
            draft.force_status(WorkloadStatus::Starting, "");
        });
        let before = stored.status.clone();
        verb(&mut stored, |draft| {
            draft.set_status(WorkloadStatus::Running, "x");
        });
        stored.status = before;
        let read = stored.read();
        assert_eq!(read.reading, Reading::Interrupted);
        assert_eq!(
            read.status.map(|file| (file.status, file.status_context)),
            Some((WorkloadStatus::Running, "x".into()))
        );
    }

    /// Another program could not start what runs already, and said so.
    #[test]
    fn what_another_program_says_went_wrong_does_not_keep_a_supervisor_from_saying_that_it_runs() {
        let mut stored = Stored::default();
        verb(&mut stored, |draft| {
            draft.force_status(WorkloadStatus::Unhealthy, "away");
        });
        let claim = stored.companion.as_ref().map(|companion| companion.claim.clone());
        stored.status = Some(StatusFile::new(WorkloadStatus::Error, now(2)).to_bytes());
        let again = Box::new(|draft: &mut Draft| draft.set_status(WorkloadStatus::Running, ""));
        let authority = Authority::Supervisor(claim.as_ref().unwrap());
        let (companion, _) = stored.apply(&name(), authority, again, now(3)).unwrap();
        assert_eq!(
            companion.last.map(|last| last.status),
            Some(WorkloadStatus::Running)
        );
    }

    #[test]
    fn an_old_claim_changes_nothing() {
        let mut stored = Stored::default();
        verb(&mut stored, |draft| {
            draft.force_status(WorkloadStatus::Running, "");
        });
        let old = ClaimId::random();
        let change: Change = Box::new(|draft| draft.companion.desired = Desired::Running);
        let result = stored.apply(&name(), Authority::Supervisor(&old), change, now(2));
        assert!(matches!(result, Err(Error::ClaimLost { .. })));
    }

    #[test]
    fn a_stop_request_changes_nothing_but_what_is_desired() {
        let mut stored = Stored::default();
        verb(&mut stored, |draft| {
            draft.companion.desired = Desired::Running;
            draft.force_status(WorkloadStatus::Running, "");
        });
        let change: Change = Box::new(|draft| {
            draft.companion.desired = Desired::Stopped;
            draft.companion.pending = Some(Pending::new(Operation::Stop, 1, ""));
            draft.set_status(WorkloadStatus::Stopping, "");
        });
        let (companion, status) = stored
            .apply(&name(), Authority::StopRequest, change, now(2))
            .unwrap();
        assert_eq!(
            (companion.desired, companion.pending, companion.revision),
            (Desired::Stopped, None, 2)
        );
        assert_eq!(status, None);
    }

    #[test]
    fn what_gave_way_runs_again_unless_the_next_verb_says_otherwise() {
        let mut stored = Stored::default();
        verb(&mut stored, |draft| draft.companion.desired = Desired::Running);
        let change: Change = Box::new(|draft| {
            draft.companion.desired = Desired::Stopped;
            draft.companion.gives_way = true;
        });
        let (companion, _) = stored
            .apply(&name(), Authority::StopRequest, change, now(2))
            .unwrap();
        assert_eq!(companion.desired, Desired::Stopped);
        stored.companion = Some(companion);
        let asked = stored.clone();
        let is = |stored: &Stored| stored.companion.clone().map(|c| (c.desired, c.gives_way));
        verb(&mut stored, |_| {});
        assert_eq!(is(&stored), Some((Desired::Running, false)));
        let mut stored = asked.clone();
        verb(&mut stored, |draft| draft.companion.desired = Desired::Stopped);
        assert_eq!(is(&stored), Some((Desired::Stopped, false)));
        let mut stored = asked;
        stored.status = Some(StatusFile::new(WorkloadStatus::Stopped, now(3)).to_bytes());
        verb(&mut stored, |_| {});
        assert_eq!(
            is(&stored),
            Some((Desired::Stopped, false)),
            "somebody else stopped it"
        );
    }

    #[test]
    fn a_foreign_stop_is_taken_in_by_the_next_change() {
        let mut stored = Stored::default();
        verb(&mut stored, |draft| {
            draft.companion.desired = Desired::Running;
            draft.force_status(WorkloadStatus::Running, "");
        });
        stored.status = Some(StatusFile::new(WorkloadStatus::Stopped, now(3)).to_bytes());
        assert_eq!(stored.read().reading, Reading::Foreign(ForeignMeaning::Stopped));
        verb(&mut stored, |_| {});
        assert_eq!(
            stored.companion.as_ref().map(|companion| companion.desired),
            Some(Desired::Stopped)
        );
        assert_eq!(stored.read().reading, Reading::Ours);
    }

    #[test]
    fn a_pid_that_somebody_wrote_is_not_made_ours() {
        let mut stored = Stored::default();
        verb(&mut stored, |draft| {
            draft.force_status(WorkloadStatus::Running, "");
            draft.status.process_id = 7;
        });
        let mut foreign = StatusFile::new(WorkloadStatus::Running, now(3));
        foreign.process_id = 1060;
        stored.status = Some(foreign.to_bytes());
        verb(&mut stored, |draft| assert_eq!(draft.found_process_id(), 1060));
        assert_eq!(stored.read().status.map(|file| file.process_id), Some(7));
    }

    #[test]
    fn a_change_that_is_declined_writes_nothing() {
        let mut stored = Stored::default();
        verb(&mut stored, |draft| {
            draft.force_status(WorkloadStatus::Running, "");
        });
        let op = OpGuard::new(name(), ());
        let change: Change = Box::new(|draft| {
            draft.force_status(WorkloadStatus::Stopped, "");
            draft.decline();
        });
        let result = stored.apply(&name(), Authority::Verb(&op), change, now(2));
        assert!(matches!(result, Err(Error::Declined { .. })), "{result:?}");
    }

    #[test]
    fn what_toolhive_runs_is_no_longer_ours() {
        let mut stored = Stored::default();
        verb(&mut stored, |draft| {
            draft.companion.desired = Desired::Stopped;
            draft.force_status(WorkloadStatus::Stopped, "");
        });
        let claim = stored.companion.as_ref().map(|companion| companion.claim.clone());
        let mut foreign = StatusFile::new(WorkloadStatus::Running, now(3));
        foreign.process_id = 1060;
        stored.status = Some(foreign.to_bytes());
        verb(&mut stored, Draft::leave_to_toolhive);
        let companion = stored.companion.clone().unwrap();
        assert_eq!(companion.desired, Desired::Running);
        assert_ne!(Some(companion.claim), claim);
        assert_eq!(stored.read().status.map(|file| file.process_id), Some(1060));
    }

    #[test]
    fn adoption_derives_what_is_desired() {
        for (status, desired) in [
            (WorkloadStatus::Running, Desired::Running),
            (WorkloadStatus::Stopped, Desired::Stopped),
        ] {
            let mut stored = Stored {
                companion: None,
                status: Some(StatusFile::new(status, now(0)).to_bytes()),
                ..Stored::default()
            };
            verb(&mut stored, |_| {});
            assert_eq!(stored.companion.map(|companion| companion.desired), Some(desired));
        }
    }

    #[test]
    fn an_ending_supervisor_does_not_write_over_a_removal() {
        let mut stored = Stored::default();
        verb(&mut stored, |draft| {
            draft.force_status(WorkloadStatus::Removing, "");
        });
        verb(&mut stored, |draft| draft.set_status(WorkloadStatus::Stopped, ""));
        assert_eq!(
            stored.read().status.map(|file| file.status),
            Some(WorkloadStatus::Removing)
        );
    }
}
