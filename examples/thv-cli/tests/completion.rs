//! What shells offer while a command line is typed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A home with names in it.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().expect("a folder"));
        for file in [
            ".local/state/toolhive/runconfigs/fetch.json",
            ".local/state/toolhive/runconfigs/filesystem.json",
            ".local/state/toolhive/runconfigs/.half-written.json",
            ".local/state/toolhive/groups/research.json",
            ".local/state/toolhive/groups/my team.json",
            ".local/share/toolhive/statuses/fetch.json",
            ".local/share/toolhive/statuses/time.json",
            ".local/share/toolhive/statuses/time.json.lock",
        ] {
            let path = home.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            // What is in them is nobody's question.
            std::fs::write(path, "{").expect("a file");
        }
        home
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// All files, with what is in them.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path.clone(), std::fs::read(path).expect("a file"));
                }
            }
        }
        files
    }

    fn program(&self, program: &str) -> Command {
        let folder = Path::new(env!("CARGO_BIN_EXE_thv")).parent().expect("a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", format!("{}:{path}", folder.display()))
            .current_dir(self.path());
        command
    }

    fn script(&self, shell: &str) -> String {
        let mut thv = self.program(env!("CARGO_BIN_EXE_thv"));
        said(thv.args(["completion", shell]).output())
    }

    /// What is offered for the last of `words`, as a script asks for it.
    fn offered(&self, words: &[&str]) -> Vec<String> {
        let mut thv = self.program(env!("CARGO_BIN_EXE_thv"));
        let output = thv
            .args(["--", "thv"])
            .args(words)
            .env("THV_COMPLETE", "bash")
            .env("_CLAP_IFS", "\n")
            .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
            .output();
        said(output).lines().map(str::to_owned).collect()
    }
}

fn said(output: std::io::Result<Output>) -> String {
    let output = output.expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn names_of_workloads_and_groups_are_offered_and_nothing_is_written() {
    let home = Home::new();
    let before = home.files();
    for (words, expected) in [
        (&["stop", "f"][..], &["fetch", "filesystem"][..]),
        (&["stop", "fetch", "t"], &["time"]),
        (&["upgrade", "apply", "fe"], &["fetch"]),
        (&["group", "move", "fil"], &["filesystem"]),
        (&["group", "rm", "r"], &["research"]),
        (&["list", "--group", ""], &["default", "my\\ team", "research"]),
        // As far as it was completed before.
        (&["stop", "--group", "my\\ t"], &["my\\ team"]),
        (&["run", "--group", "re"], &["research"]),
        (&["logs", "x"], &[]),
        (&["rec"], &["reconcile"]),
        (&["run", "--proxy-mode", "str"], &["streamable-http"]),
    ] {
        assert_eq!(home.offered(words), expected, "{words:?}");
    }
    assert_eq!(home.files(), before);
}

#[test]
fn names_of_the_registry_are_offered_and_nobody_is_asked() {
    let home = Home::new();
    assert_eq!(home.offered(&["run", "fetc"]), ["fetch"]);
    assert_eq!(
        home.offered(&["registry", "info", "io.github.stacklok/fetc"]),
        ["io.github.stacklok/fetch"]
    );
    // One elsewhere, where nobody answers and nothing was kept.
    let config = home.path().join(".config/toolhive/config.yaml");
    std::fs::create_dir_all(config.parent().expect("a folder")).expect("a folder");
    std::fs::write(&config, "registry_url: https://192.0.2.1/registry.json\n").expect("a file");
    let before = home.files();
    assert_eq!(home.offered(&["run", "fetc"]), [""; 0]);
    assert_eq!(home.files(), before);
}

#[test]
fn nothing_is_offered_that_is_refused() {
    let flags = Home::new().offered(&["run", "--"]);
    assert!(flags.iter().any(|flag| flag == "--launch-timeout"), "{flags:?}");
    for refused in ["--audit-config", "--otel-endpoint"] {
        assert!(!flags.iter().any(|flag| flag == refused), "{refused}");
    }
}

#[test]
fn what_goes_wrong_is_no_answer_and_no_word() {
    let home = Home::new();
    let folder = home.path().join(".local/state/toolhive/runconfigs");
    std::fs::remove_dir_all(&folder).expect("removed");
    std::fs::write(&folder, "no folder").expect("a file");
    assert_eq!(home.offered(&["stop", "f"]), ["fetch"]);
    for (shell, index, homeless) in [
        ("no-shell", "2", false),
        ("bash", "99", false),
        ("bash", "2", true),
    ] {
        let mut thv = home.program(env!("CARGO_BIN_EXE_thv"));
        thv.args(["--", "thv", "stop", "f"])
            .env("THV_COMPLETE", shell)
            .env("_CLAP_COMPLETE_INDEX", index);
        if homeless {
            thv.env_remove("HOME");
        }
        assert_eq!(said(thv.output()), "", "{shell} {index} {homeless}");
    }
}

#[test]
fn scripts_are_understood_by_their_shells() {
    let home = Home::new();
    for (shell, check) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = home.path().join(shell);
        std::fs::write(&script, home.script(shell)).expect("a file");
        if let Some(output) = run(home.program(shell).arg(check).arg(script)) {
            assert_eq!(said(Ok(output)), "", "{shell}");
        }
    }
    for shell in ["elvish", "powershell"] {
        assert!(home.script(shell).contains("THV_COMPLETE"), "{shell}");
    }
}

#[test]
fn a_shell_completes_a_name() {
    let home = Home::new();
    // What bash does at the key, and what fish says of itself.
    let bash = r#"source <(thv completion bash)
        COMP_WORDS=(thv stop fi) COMP_CWORD=2 COMP_TYPE=9
        _clap_complete_thv thv fi stop
        echo "${COMPREPLY[@]}""#;
    let fish = "thv completion fish | source; complete --do-complete 'thv stop fi'";
    // A name with a space in it is one word of the line.
    let bash_space = r#"source <(thv completion bash)
        COMP_WORDS=(thv stop --group my) COMP_CWORD=3 COMP_TYPE=9
        _clap_complete_thv thv my --group
        eval "words=(${COMPREPLY[@]})"
        echo "${#words[@]} ${words[0]}""#;
    let fish_space = "thv completion fish | source; complete --do-complete 'thv stop --group my'";
    for (shell, script, expected) in [
        ("bash", bash, "filesystem"),
        ("fish", fish, "filesystem"),
        ("bash", bash_space, "1 my team"),
        ("fish", fish_space, "my team"),
    ] {
        if let Some(output) = run(home.program(shell).args(["-c", script])) {
            assert_eq!(said(Ok(output)).trim(), expected, "{shell}");
        }
    }
}

/// None, said on a line, where there is no such shell.
fn run(command: &mut Command) -> Option<Output> {
    let output = command.output().ok();
    if output.is_none() {
        let shell = command.get_program().display();
        let _ = writeln!(std::io::stderr(), "skipped: there is no {shell}");
    }
    output
}
