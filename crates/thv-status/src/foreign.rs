//! Whose write the status file is, and what it means when it is not ours. Pure: no clock is asked.

use thv_core::WorkloadStatus;

use crate::{Companion, Desired, StatusFile};

/// Whose write the status file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reading {
    /// There is neither a record nor a file.
    Nothing,
    /// There is no record: ToolHive made the workload.
    ToolHive,
    /// The file is the one that we wrote.
    Ours,
    /// The file is the one that we found: a crash came between record and file, and the record counts.
    Interrupted,
    /// Somebody else wrote, or removed, the file since.
    Foreign(ForeignMeaning),
}

/// What a foreign status file means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForeignMeaning {
    /// Somebody stopped it, or is about to.
    Stopped,
    /// The file is gone: it should not run; with the run configuration gone too, it is removed.
    Gone,
    /// ToolHive says that it runs it. True only if the pid is proved to be its proxy's; otherwise it is ignored and put
    /// right by the next write.
    MayRun,
    /// `unhealthy`: an observation, ignored while both are seen alive.
    Observation,
    /// Anything else: shown as it is, and nothing follows from it.
    Other,
}

/// Tells whose write the status file is.
///
/// | file's hash | reading |
/// |---|---|
/// | no record | `ToolHive`, or `Nothing` |
/// | `after` | `Ours` |
/// | `before` | `Interrupted` |
/// | anything else: `stopping`, `stopped`, `removing`, `policy_stopped` | `Foreign(Stopped)` |
/// | … gone | `Foreign(Gone)` |
/// | … `running`, `starting` | `Foreign(MayRun)` |
/// | … `unhealthy` | `Foreign(Observation)` |
/// | … other states, or damaged | `Foreign(Other)` |
pub fn interpret(companion: Option<&Companion>, hash: Option<&str>, file: Option<&StatusFile>) -> Reading {
    let Some(companion) = companion else {
        return if hash.is_some() {
            Reading::ToolHive
        } else {
            Reading::Nothing
        };
    };
    let hashes = &companion.status_file;
    if hash == hashes.after.as_deref() {
        return Reading::Ours;
    }
    if hash == hashes.before.as_deref() {
        return Reading::Interrupted;
    }
    if hash.is_none() {
        return Reading::Foreign(ForeignMeaning::Gone);
    }
    use WorkloadStatus as S;
    Reading::Foreign(match file.map(|file| file.status) {
        Some(S::Stopping | S::Stopped | S::Removing | S::PolicyStopped) => ForeignMeaning::Stopped,
        Some(S::Running | S::Starting) => ForeignMeaning::MayRun,
        Some(S::Unhealthy) => ForeignMeaning::Observation,
        _ => ForeignMeaning::Other,
    })
}

impl Reading {
    /// What the user wants, given what the record says.
    pub fn desired(self, recorded: Desired) -> Desired {
        match self {
            Self::Foreign(ForeignMeaning::Stopped | ForeignMeaning::Gone) => Desired::Stopped,
            _ => recorded,
        }
    }
}

/// What ToolHive's status says about what the user wants.
pub(crate) fn desired_of(file: Option<&StatusFile>) -> Desired {
    use WorkloadStatus as S;
    match file.map(|file| file.status) {
        Some(S::Running | S::Starting | S::Unhealthy | S::AuthRetrying | S::Unauthenticated) => {
            Desired::Running
        }
        _ => Desired::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use thv_core::gojson::GoTime;

    use super::*;
    use crate::{ClaimId, StatusFileHashes};

    #[test]
    fn each_case_of_a_foreign_write() {
        let mut companion = Companion::new(ClaimId::random(), "thv");
        companion.status_file = StatusFileHashes {
            before: Some("b".into()),
            after: Some("a".into()),
            overruled: None,
        };
        let read = |hash, status: Option<WorkloadStatus>| {
            let file = status.map(|status| StatusFile::new(status, GoTime::default()));
            interpret(Some(&companion), hash, file.as_ref())
        };
        use ForeignMeaning as F;
        use WorkloadStatus as S;
        let foreign = |status| match read(Some("x"), Some(status)) {
            Reading::Foreign(meaning) => meaning,
            other => panic!("{other:?}"),
        };
        assert_eq!(read(Some("a"), Some(S::Stopped)), Reading::Ours);
        assert_eq!(read(Some("b"), Some(S::Stopped)), Reading::Interrupted);
        assert_eq!(read(None, None), Reading::Foreign(F::Gone));
        for status in [S::Stopping, S::Stopped, S::Removing, S::PolicyStopped] {
            assert_eq!(foreign(status), F::Stopped);
            assert_eq!(
                Reading::Foreign(foreign(status)).desired(Desired::Running),
                Desired::Stopped
            );
        }
        for status in [S::Running, S::Starting] {
            assert_eq!(foreign(status), F::MayRun);
            assert_eq!(
                Reading::Foreign(foreign(status)).desired(Desired::Stopped),
                Desired::Stopped
            );
        }
        assert_eq!(foreign(S::Unhealthy), F::Observation);
        for status in [S::Error, S::Unknown, S::Unauthenticated, S::AuthRetrying] {
            assert_eq!(foreign(status), F::Other);
        }
        assert_eq!(interpret(None, Some("x"), None), Reading::ToolHive);
        assert_eq!(interpret(None, None, None), Reading::Nothing);
        companion.status_file = StatusFileHashes::default();
        assert_eq!(
            interpret(Some(&companion), None, None),
            Reading::Ours,
            "no file was written yet"
        );
    }
}
