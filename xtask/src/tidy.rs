//! The checks that no other tool makes. Each takes what it judges as a value and gives its complaints, so that it is tested on
//! a made-up workspace.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cargo::{Member, members};

/// The arrows that ARCHITECTURE.md draws: a crate and the crates of ours that it may depend on, besides `thv-core`.
/// What is not listed (umbrella, API, examples, tests, benches) may use all of them.
const ARROWS: &[(&str, &[&str])] = &[
    ("thv-core", &[]),
    ("thv-files", &[]),
    ("thv-labels", &[]),
    ("thv-process", &[]),
    ("thv-config", &["thv-files"]),
    ("thv-secrets", &["thv-files"]),
    ("thv-state", &["thv-files"]),
    ("thv-proxy", &[]),
    ("thv-registry", &["thv-files"]),
    ("thv-image", &[]),
    ("thv-runtime", &["thv-files", "thv-labels"]),
    (
        "thv-runtime-docker",
        &["thv-labels", "thv-process", "thv-runtime"],
    ),
    ("thv-runtime-local", &["thv-files", "thv-process", "thv-runtime"]),
    (
        "thv-status",
        &["thv-files", "thv-labels", "thv-process", "thv-runtime"],
    ),
    ("thv-auth", &["thv-secrets"]),
    (
        "thv-manager",
        &[
            "thv-files",
            "thv-labels",
            "thv-runtime",
            "thv-state",
            "thv-status",
            "thv-proxy",
            "thv-auth",
            "thv-secrets",
            "thv-image",
            "thv-registry",
            "thv-config",
            "thv-process",
        ],
    ),
    ("thv-upgrade", &["thv-manager", "thv-registry", "thv-image"]),
];

/// What only adapters may depend on.
const ADAPTER_ONLY: &[&str] = &["bollard", "kube", "k8s-openapi"];
const NO_ADAPTERS: &[&str] = &[
    "thv-core",
    "thv-runtime",
    "thv-manager",
    "thv-proxy",
    "thv-upgrade",
];

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let members = members(root)?;
    let mut complaints = arrows(&members);
    complaints.extend(adapters(&members));
    for member in &members {
        complaints.extend(manifest(member));
        complaints.extend(unreached(member));
    }
    complaints.extend(commands(root, &members));
    complaints.extend(quoted(root));
    complaints.extend(embedding(root));
    for file in sources(&members) {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        complaints.extend(words(&name, &text));
        let lines = text.lines().count();
        if lines > 700 {
            crate::warn(&format!("warning: {name} has {lines} lines: usually two rooms"));
        }
    }
    if complaints.is_empty() {
        Ok(())
    } else {
        Err(complaints.join("\n"))
    }
}

fn arrows(members: &[Member]) -> Vec<String> {
    let ours: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let mut complaints = Vec::new();
    for member in members {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == member.name) else {
            continue;
        };
        for dependency in member
            .dependencies
            .iter()
            .map(String::as_str)
            .filter(|name| ours.contains(name))
        {
            let core = dependency == "thv-core" && member.name != "thv-core";
            if !core && !allowed.contains(&dependency) {
                complaints.push(format!(
                    "{} depends on {dependency}: no such arrow in the architecture",
                    member.name
                ));
            }
        }
    }
    complaints
}

fn adapters(members: &[Member]) -> Vec<String> {
    let bound = members
        .iter()
        .filter(|member| NO_ADAPTERS.contains(&member.name.as_str()));
    bound
        .flat_map(|member| {
            member
                .dependencies
                .iter()
                .map(move |dependency| (member, dependency))
        })
        .filter(|(_, dependency)| ADAPTER_ONLY.contains(&dependency.as_str()))
        .map(|(member, dependency)| format!("{} names an adapter: {dependency}", member.name))
        .collect()
}

fn manifest(member: &Member) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut demand = |holds: bool, what: &str| {
        if !holds {
            complaints.push(format!("{}: {what}", member.name));
        }
    };
    demand(member.description.is_some(), "has no description");
    demand(member.license.is_some(), "has no license");
    let text = std::fs::read_to_string(member.folder.join("Cargo.toml")).unwrap_or_default();
    let own_lints = text.contains("[lints.rust]") && text.contains("unsafe_code");
    demand(
        text.contains("[lints]\nworkspace = true") || own_lints,
        "does not inherit the workspace's lints",
    );
    if member.published {
        let lib = std::fs::read_to_string(member.folder.join("src/lib.rs")).unwrap_or_default();
        demand(lib.contains("//! ```"), "lib.rs has no example in its docs");
        demand(
            text.contains("readme.workspace = true"),
            "has no readme, the first page that a registry shows",
        );
        // A licence that is in the archive, not in the repository alone.
        for file in ["LICENSE", "NOTICE"] {
            let there = member.folder.join(file).is_file();
            demand(there, &format!("has no {file} (a link to the workspace's)"));
        }
    }
    complaints
}

/// Files below `src` that no target reaches through `mod`, so that nobody compiles them.
fn unreached(member: &Member) -> Vec<String> {
    let mut reached = BTreeSet::new();
    for target in &member.targets {
        reach(target, true, &mut reached);
    }
    let mut files = Vec::new();
    rust_files(&member.folder.join("src"), &mut files);
    files.retain(|file| !reached.contains(file));
    files
        .iter()
        .map(|file| format!("{}: no target reaches it", file.display()))
        .collect()
}

fn reach(file: &Path, is_root: bool, reached: &mut BTreeSet<PathBuf>) {
    let Ok(text) = std::fs::read_to_string(file) else {
        return;
    };
    if !reached.insert(file.to_owned()) {
        return;
    }
    let parent = file.parent().unwrap_or(file);
    let folder = if is_root || file.ends_with("mod.rs") {
        parent.to_owned()
    } else {
        file.with_extension("")
    };
    let mut path = None;
    for line in text.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("#[path = \"") {
            path = rest.split('"').next().map(|name| parent.join(name));
        } else if let Some(name) = declared_module(line) {
            if let Some(file) = path.take() {
                reach(&file, false, reached);
            } else {
                reach(&folder.join(format!("{name}.rs")), false, reached);
                reach(&folder.join(name).join("mod.rs"), false, reached);
            }
        }
    }
}

fn declared_module(line: &str) -> Option<&str> {
    let line = line.strip_suffix(';')?;
    let (visibility, name) = line.rsplit_once("mod ")?;
    let visibility = visibility.trim();
    (visibility.is_empty() || visibility.starts_with("pub") || visibility.starts_with("#["))
        .then_some(name.trim())
}

/// `cargo run -p X` in the documents, with an X that is not there; crates and examples that the map leaves out.
fn commands(root: &Path, members: &[Member]) -> Vec<String> {
    let mut complaints = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let Ok(text) = std::fs::read_to_string(root.join(document)) else {
            complaints.push(format!("{document} is missing"));
            continue;
        };
        for line in text.lines().filter(|line| line.contains("cargo ")) {
            let mut words = line.split([' ', '`']);
            while let Some(word) = words.next() {
                if (word == "-p" || word == "--package")
                    && let Some(name) = words.next()
                    && !members.iter().any(|member| member.name == name)
                {
                    complaints.push(format!("{document}: there is no package {name:?}"));
                }
            }
        }
        if document == "ARCHITECTURE.md" {
            for member in members {
                let folder = member.folder.file_name().unwrap_or_default().to_string_lossy();
                if !text.contains(&*folder) {
                    complaints.push(format!("{document} does not name {folder}"));
                }
            }
        }
    }
    complaints
}

/// Files and verbs that the documents quote in commands, and that are not there.
fn quoted(root: &Path) -> Vec<String> {
    let verbs =
        std::fs::read_to_string(root.join("examples/thv-cli/tests/snapshots/command_line__help.snap"));
    let verbs = verbs.unwrap_or_default();
    let mut complaints = Vec::new();
    for document in ["README.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap_or_default();
        for word in text.split([' ', '`', '(', ')', ',', '\n', ';']) {
            let is_ours = [".ci/", "scripts/", "examples/", "crates/", "tests/"]
                .iter()
                .any(|folder| word.starts_with(folder));
            if is_ours && !root.join(word.trim_end_matches(['.', ':'])).exists() {
                complaints.push(format!("{document}: there is no {word}"));
            }
        }
        let commands = text.lines().filter_map(|line| line.strip_prefix("$ thv "));
        for verb in commands.filter_map(|line| line.split(' ').next()) {
            let is_there = |line: &str| line.split_whitespace().next() == Some(verb);
            if !verb.starts_with('-') && !verbs.lines().any(is_there) {
                complaints.push(format!("{document}: there is no verb {verb:?}"));
            }
        }
    }
    complaints
}

/// The whole application that the documents promise in under 40 lines.
fn embedding(root: &Path) -> Option<String> {
    let file = "examples/embed/src/main.rs";
    let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
    let lines = text.lines().count();
    if lines == 0 || lines >= 40 {
        return Some(format!("{file} has {lines} lines: promised are 1 to 39"));
    }
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap_or_default();
    let said = format!("a whole application in {lines} lines");
    (!readme.contains(&said)).then(|| format!("README.md does not say {said:?}"))
}

/// Words that have no place in the repository. Joined here so that this file passes its own check.
fn words(name: &str, text: &str) -> Vec<String> {
    let forbidden = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("to", "do!("),
        concat!("unimplem", "ented!("),
    ];
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in forbidden.iter().filter(|word| line.contains(**word)) {
            complaints.push(format!("{name}:{}: {word:?} has no place here", number + 1));
        }
    }
    complaints
}

fn sources(members: &[Member]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for member in members {
        for folder in ["src", "tests", "benches", "examples"] {
            rust_files(&member.folder.join(folder), &mut files);
        }
    }
    files
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, dependencies: &[&str]) -> Member {
        Member {
            name: name.to_owned(),
            dependencies: dependencies.iter().map(|&name| name.to_owned()).collect(),
            ..Member::default()
        }
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_found() {
        let drawn = [
            member("thv-core", &[]),
            member("thv-proxy", &["thv-core", "hyper"]),
        ];
        assert!(arrows(&drawn).is_empty());
        let other = [member("thv-runtime", &[]), member("thv-proxy", &["thv-runtime"])];
        assert_eq!(arrows(&other).len(), 1);
    }

    #[test]
    fn the_manager_names_no_adapter() {
        assert_eq!(adapters(&[member("thv-manager", &["bollard"])]).len(), 1);
        assert!(adapters(&[member("thv-runtime-docker", &["bollard"])]).is_empty());
    }

    #[test]
    fn a_file_without_a_target_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = folder.path().join("src");
        std::fs::create_dir_all(source.join("a")).expect("written");
        for (name, text) in [
            ("lib.rs", "pub(crate) mod a;\n"),
            ("a.rs", "mod b;\n"),
            ("a/b.rs", ""),
            ("lost.rs", ""),
        ] {
            std::fs::write(source.join(name), text).expect("written");
        }
        let mut made_up = member("made-up", &[]);
        made_up.folder = folder.path().to_owned();
        made_up.targets = vec![source.join("lib.rs")];
        let complaints = unreached(&made_up);
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(complaints[0].contains("lost.rs"));
    }

    #[test]
    fn a_manifest_without_its_fields_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut made_up = member("made-up", &[]);
        made_up.folder = folder.path().to_owned();
        made_up.published = true;
        assert_eq!(manifest(&made_up).len(), 7);
    }

    #[test]
    fn a_document_that_names_what_is_not_there_is_found() {
        let root = tempfile::tempdir().expect("a folder");
        for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
            std::fs::write(root.path().join(name), "`cargo run -p made-up`").expect("written");
        }
        let mut made_up = member("made-up", &[]);
        made_up.folder = root.path().join("crates/made-up");
        assert!(commands(root.path(), std::slice::from_ref(&made_up)).is_empty());
        std::fs::write(root.path().join("README.md"), "`cargo run --release -p gone`").expect("written");
        assert_eq!(
            commands(root.path(), &[made_up]),
            ["README.md: there is no package \"gone\""]
        );
    }

    #[test]
    fn a_quoted_file_or_verb_that_is_not_there_is_found() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("written");
            std::fs::write(path, text).expect("written");
        };
        write(
            "examples/thv-cli/tests/snapshots/command_line__help.snap",
            "Commands:\n  run   Run\n",
        );
        write("scripts/engine", "");
        write("README.md", "`scripts/engine docker start`\n$ thv run x\n");
        assert!(quoted(root.path()).is_empty(), "{:?}", quoted(root.path()));
        write("README.md", "see scripts/gone.\n$ thv walk x\n");
        assert_eq!(
            quoted(root.path()),
            [
                "README.md: there is no scripts/gone.",
                "README.md: there is no verb \"walk\""
            ]
        );
    }

    #[test]
    fn an_example_that_grew_is_found() {
        let root = tempfile::tempdir().expect("a folder");
        let source = root.path().join("examples/embed/src");
        std::fs::create_dir_all(&source).expect("written");
        std::fs::write(root.path().join("README.md"), "a whole application in 39 lines").expect("written");
        std::fs::write(source.join("main.rs"), "//\n".repeat(39)).expect("written");
        assert_eq!(embedding(root.path()), None);
        for lines in [0, 38, 40] {
            std::fs::write(source.join("main.rs"), "//\n".repeat(lines)).expect("written");
            assert!(embedding(root.path()).is_some(), "{lines}");
        }
    }

    #[test]
    fn forbidden_words_are_found_with_their_line() {
        let text = concat!("fine\nlet x = \"/wo", "rk/here\";");
        assert_eq!(words("a.rs", text).len(), 1);
        assert!(words("a.rs", text)[0].starts_with("a.rs:2:"));
    }
}
