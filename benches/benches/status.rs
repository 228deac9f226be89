//! A durable status update beside the least that it can be: two files written, synced and renamed, and their folders
//! synced.
//!
//! `cargo bench -p thv-benches --bench status`; `TMPDIR` says which file system is measured.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use thv::core::{Dirs, WorkloadName, WorkloadStatus};
use thv::status::{Authority, ClaimId, Companion, Draft, FileStatusManager, Operation, StatusManager};
use thv_benches::median;

const ROUNDS: usize = 300;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let dirs = Dirs::under(folder.path());
    let status = FileStatusManager::new(&dirs);
    let name: WorkloadName = "bench".parse().expect("a name");
    let claim = ClaimId::random();
    let op = status
        .lock_op(&name, Operation::Run, Duration::ZERO)
        .await
        .expect("a lock");
    status
        .create(&name, &op, Companion::new(claim.clone(), "bench"))
        .await
        .expect("a record");
    let starting = |draft: &mut Draft| draft.set_status(WorkloadStatus::Starting, "");
    let begun = status
        .update(&name, Authority::Verb(&op), Box::new(starting))
        .await;
    begun.expect("a status");
    let files = [
        dirs.lifecycle().join("bench.json"),
        dirs.statuses().join("bench.json"),
    ];
    let (mut updates, mut writes) = (Vec::new(), Vec::new());
    // Side by side, so that a disk that has a bad moment has it for both.
    for round in 0..ROUNDS {
        let change = move |draft: &mut Draft| {
            draft.set_status(WorkloadStatus::Starting, &format!("attempt {round}"));
        };
        let began = Instant::now();
        let updated = status
            .update(&name, Authority::Supervisor(&claim), Box::new(change))
            .await;
        updates.push(began.elapsed());
        updated.expect("an update");
        let bytes = files
            .each_ref()
            .map(|file| std::fs::read(file).expect("it is there"));
        let began = Instant::now();
        for (file, bytes) in files.iter().zip(&bytes) {
            bare(&file.with_extension("bare"), bytes);
        }
        writes.push(began.elapsed());
    }
    let (update, write) = (median(updates), median(writes));
    println!("a durable status update, {ROUNDS} rounds");
    println!("  update          {:>8.3} ms", update.as_secs_f64() * 1e3);
    println!("  two bare writes {:>8.3} ms", write.as_secs_f64() * 1e3);
    println!(
        "  ratio           {:>8.2}",
        update.as_secs_f64() / write.as_secs_f64()
    );
}

fn bare(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension("bare-tmp");
    let mut file = File::create(&temporary).expect("a file");
    file.write_all(bytes).expect("written");
    file.sync_all().expect("synced");
    std::fs::rename(&temporary, path).expect("renamed");
    let folder = path.parent().expect("a folder");
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .expect("synced");
}
