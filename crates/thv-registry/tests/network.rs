//! Registries over the network, friendly and hostile.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail loudly")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use support::{Reply, Server, document, page, server};
use tempfile::TempDir;
use thv_core::{Dirs, Env};
use thv_registry::{ApiRegistry, Error, MAX_DOCUMENT_BYTES, Registry, Source, UrlRegistry, detect};

fn document_at(url: &str) -> UrlRegistry {
    UrlRegistry::new(url, true, &Env::default()).unwrap()
}

fn api(server: &Server, folder: &TempDir) -> ApiRegistry {
    ApiRegistry::new(
        &server.url("/base/"),
        true,
        &Dirs::under(folder.path()),
        &Env::default(),
    )
    .unwrap()
}

async fn failure(reply: Reply) -> Error {
    let server = Server::start(move |_| reply.clone()).await;
    document_at(&server.url("/r.json")).list().await.unwrap_err()
}

#[tokio::test]
async fn a_document_is_fetched() {
    let server = Server::start(|_| Reply::Json(document(&["a/one", "b/two"]))).await;
    let registry = document_at(&server.url("/r.json?token=x"));
    assert_eq!(registry.get("one").await.unwrap().name(), "a/one");
    assert!(registry.get("three").await.unwrap_err().is_not_found());
    assert_eq!(registry.source().registry_url(), server.url("/r.json?token=x"));
    assert!(!registry.source().to_string().contains("token"));
}

#[tokio::test]
async fn without_leave_nothing_is_asked() {
    let server = Server::start(|_| Reply::Json(document(&["a/one"]))).await;
    let dirs = Dirs::under("/nowhere");
    for url in [
        server.url("/r.json"),
        format!("https://{}/r.json", server.address),
        format!("https://localhost:{}/r.json", server.address.port()),
    ] {
        let error = match UrlRegistry::new(&url, false, &Env::default()) {
            Ok(registry) => registry.list().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.code(), "registry_denied", "{url}");
        let error = detect(&url, false, &dirs, &Env::default()).await.unwrap_err();
        assert_eq!(error.code(), "registry_denied", "{url}");
    }
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn an_answer_that_is_no_success_is_an_error_of_its_kind() {
    for (status, code, retryable) in [
        (500, "registry_unavailable", true),
        (404, "registry_unavailable", true),
        (401, "registry_auth_required", false),
        (403, "registry_auth_required", false),
    ] {
        let error = failure(Reply::Status(status, "no \u{1b}[31mluck".into())).await;
        assert_eq!(
            (error.code(), error.is_retryable()),
            (code, retryable),
            "{status}"
        );
        assert!(!error.to_string().contains('\u{1b}'));
    }
    assert_eq!(
        failure(Reply::Json("<html>".into())).await.code(),
        "registry_invalid"
    );
    assert_eq!(
        failure(Reply::Json(r#"{"servers": {}}"#.into())).await.code(),
        "registry_legacy"
    );
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/r.json", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(
        document_at(&url).get("x").await.unwrap_err().code(),
        "registry_unavailable"
    );
}

/// Nothing else happens, so that the time of the test jumps to the end of the client's patience.
#[tokio::test(start_paused = true)]
async fn a_registry_that_hangs_is_unavailable() {
    let error = failure(Reply::Hangs).await;
    assert_eq!(error.code(), "registry_unavailable", "{error}");
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    assert_eq!(
        failure(Reply::Announces(100 * 1024 * 1024)).await.code(),
        "registry_too_large"
    );
    let server = Server::start(|_| Reply::Endless).await;
    let error = document_at(&server.url("/r.json")).list().await.unwrap_err();
    assert_eq!(error.code(), "registry_too_large");
    assert!(
        server.sent() < 2 * MAX_DOCUMENT_BYTES,
        "{} bytes were taken",
        server.sent()
    );
}

#[tokio::test]
async fn a_deep_nest_is_refused() {
    let error = failure(Reply::Json("[".repeat(1_000_000))).await;
    assert_eq!(error.code(), "registry_too_large");
}

#[tokio::test]
async fn redirects_are_followed_under_the_rules_only() {
    let server = Server::start(|target| match target {
        "/here" => Reply::Redirect("/there".into()),
        "/there" => Reply::Json(document(&["a/one"])),
        "/file" => Reply::Redirect("file:///etc/passwd".into()),
        "/credentials" => Reply::Redirect("http://me:pw@127.0.0.1:1/".into()),
        _ => Reply::Redirect("/circle".into()),
    })
    .await;
    assert_eq!(document_at(&server.url("/here")).list().await.unwrap().len(), 1);
    for path in ["/circle", "/credentials"] {
        let error = document_at(&server.url(path)).list().await.unwrap_err();
        assert_eq!(error.code(), "registry_denied", "{path}: {error}");
    }
    assert!(document_at(&server.url("/file")).list().await.is_err());
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used() {
    let proxy = Server::start(|_| Reply::Json(document(&["a/one"]))).await;
    let env = Env::from_vars([
        ("http_proxy", proxy.url("")),
        ("no_proxy", "other.invalid".to_owned()),
    ]);
    let registry = UrlRegistry::new("http://registry.invalid/r.json", true, &env).unwrap();
    assert_eq!(registry.list().await.unwrap().len(), 1);
    assert_eq!(proxy.asked(), ["http://registry.invalid/r.json"]);
    let excepted = UrlRegistry::new("http://other.invalid/r.json", true, &env).unwrap();
    assert!(excepted.list().await.is_err());
    assert_eq!(proxy.asked().len(), 1);
}

#[tokio::test]
async fn an_api_is_read_page_by_page_and_kept() {
    let server = Server::start(|target| match target {
        "/base/v0.1/servers?limit=100&version=latest" => Reply::Json(page(&["a/one", "b/two"], "next one")),
        "/base/v0.1/servers?limit=100&version=latest&cursor=next+one" => Reply::Json(page(&["c/three"], "")),
        _ => Reply::Status(404, String::new()),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let registry = api(&server, &folder);
    assert_eq!(registry.list().await.unwrap().len(), 3);
    assert_eq!(registry.get("three").await.unwrap().name(), "c/three");
    assert_eq!(registry.search("TWO").await.unwrap().len(), 1);
    assert_eq!(registry.source().registry_api_url(), server.url("/base"));
    // Another process.
    let again = api(&server, &folder);
    assert_eq!(again.get("a/one").await.unwrap().name(), "a/one");
    assert_eq!(server.asked().len(), 2, "what is fresh is not asked again");
    assert!(again.forget());
    again.list().await.unwrap();
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn a_server_that_the_list_lacks_is_asked_for() {
    let server = Server::start(|target| match target {
        "/base/v0.1/servers?limit=100&version=latest" => Reply::Json(page(&["a/old"], "")),
        "/base/v0.1/servers/a%2Fnew/versions/latest" => {
            Reply::Json(format!(r#"{{"server": {}}}"#, server("a/new")))
        }
        "/base/v0.1/servers/a%2Fother/versions/latest" => {
            Reply::Json(format!(r#"{{"server": {}}}"#, server("a/new")))
        }
        "/base/v0.1/servers?search=new&version=latest" => Reply::Json(page(&["a/new", "a/newer"], "")),
        "/base/v0.1/servers?search=two&version=latest" => Reply::Json(page(&["a/two", "b/two"], "")),
        "/base/v0.1/servers?search=down&version=latest" => Reply::Status(500, String::new()),
        "/base/v0.1/servers?search=none&version=latest" => Reply::Json(page(&[], "")),
        _ => Reply::Status(404, String::new()),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let registry = api(&server, &folder);
    assert_eq!(registry.get("a/new").await.unwrap().name(), "a/new");
    assert_eq!(registry.get("new").await.unwrap().name(), "a/new");
    for (name, code) in [
        ("a/none", "registry_server_not_found"),
        ("none", "registry_server_not_found"),
        ("two", "registry_ambiguous"),
        ("down", "registry_unavailable"),
        ("a/other", "registry_invalid"),
    ] {
        assert_eq!(registry.get(name).await.unwrap_err().code(), code, "{name}");
    }
}

/// Makes what is kept two hours old.
fn age(folder: &TempDir) {
    let cache = Dirs::under(folder.path()).cache.join("toolhive/cache");
    let entry = std::fs::read_dir(cache).unwrap().next().unwrap().unwrap();
    let file = std::fs::File::options().write(true).open(entry.path()).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_hours(2))
        .unwrap();
}

#[tokio::test]
async fn what_is_old_is_served_while_the_registry_is_away_and_says_nothing_of_what_it_lacks() {
    let status = Arc::new(AtomicUsize::new(200));
    let server = {
        let status = status.clone();
        Server::start(move |_| match status.load(Ordering::SeqCst) {
            200 => Reply::Json(page(&["a/one"], "")),
            status => Reply::Status(u16::try_from(status).unwrap(), String::new()),
        })
    }
    .await;
    let folder = tempfile::tempdir().unwrap();
    api(&server, &folder).list().await.unwrap();
    age(&folder);
    status.store(500, Ordering::SeqCst);
    let away = api(&server, &folder);
    assert_eq!(away.get("one").await.unwrap().name(), "a/one");
    for absent in ["two", "a/two"] {
        let error = away.get(absent).await.unwrap_err();
        assert_eq!(
            error.code(),
            "registry_unavailable",
            "{absent} is not known to be absent"
        );
    }
    status.store(401, Ordering::SeqCst);
    let locked = api(&server, &folder);
    assert_eq!(
        locked.get("one").await.unwrap_err().code(),
        "registry_auth_required"
    );
    status.store(200, Ordering::SeqCst);
    assert_eq!(api(&server, &folder).list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_cache_that_is_damaged_or_somebody_elses_is_nothing() {
    let server = Server::start(|_| Reply::Json(page(&["a/one"], ""))).await;
    let folder = tempfile::tempdir().unwrap();
    api(&server, &folder).list().await.unwrap();
    let cache = Dirs::under(folder.path()).cache.join("toolhive/cache");
    let path = std::fs::read_dir(cache).unwrap().next().unwrap().unwrap().path();
    let other = document(&["evil/one"]).replacen('{', r#"{"registry": "http://other", "#, 1);
    for damaged in ["", "{", other.as_str(), &document(&["evil/one"])] {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(
            api(&server, &folder).get("one").await.unwrap().name(),
            "a/one",
            "{damaged}"
        );
    }
}

#[tokio::test]
async fn cursors_without_end_are_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let circle = Server::start(|_| Reply::Json(page(&["a/one"], "again"))).await;
    let error = api(&circle, &folder).list().await.unwrap_err();
    assert!(error.to_string().contains("a cursor came twice"), "{error}");
    let count = AtomicUsize::new(0);
    let names: Vec<String> = (0..1000).map(|number| format!("a/{number}")).collect();
    let endless = Server::start(move |_| {
        let next = count.fetch_add(1, Ordering::SeqCst).to_string();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Reply::Json(page(&names, &next))
    })
    .await;
    let error = api(&endless, &folder).list().await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("exceeded maximum server limit (10000)"),
        "{error}"
    );
    assert_eq!(endless.asked().len(), 11);
}

#[tokio::test]
async fn many_who_ask_at_once_are_one_question() {
    let server = Server::start(|_| Reply::Json(page(&["a/one"], ""))).await;
    let folder = tempfile::tempdir().unwrap();
    let registry = Arc::new(api(&server, &folder));
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let registry = registry.clone();
            tokio::spawn(async move { registry.get("one").await.map(|entry| entry.name().to_owned()) })
        })
        .collect();
    for one in asking {
        assert_eq!(one.await.unwrap().unwrap(), "a/one");
    }
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn what_somebody_means_is_found_out() {
    let is_api = Arc::new(AtomicBool::new(true));
    let server = {
        let is_api = is_api.clone();
        Server::start(move |target| match target {
            "/locked/v0.1/servers?limit=1&version=latest" => Reply::Status(401, String::new()),
            "/v0.1/servers?limit=1&version=latest" if is_api.load(Ordering::SeqCst) => {
                Reply::Json(page(&[], ""))
            }
            "/r.json" | "/" => Reply::Json(document(&["a/one"])),
            "/empty.json" => Reply::Json(document(&[])),
            "/unusable.json" => {
                Reply::Json(document(&["a/one"]).replace("example/tool:1.0.0", "exec:///bin/sh"))
            }
            _ => Reply::Status(404, String::new()),
        })
    }
    .await;
    let folder = tempfile::tempdir().unwrap();
    let dirs = Dirs::under(folder.path());
    let detected = async |text: &str| detect(text, true, &dirs, &Env::default()).await;
    let base = server.url("");
    assert_eq!(detected(&base).await.unwrap(), Source::Api(base.clone()));
    assert_eq!(
        detected(&server.url("/locked/")).await.unwrap(),
        Source::Api(server.url("/locked"))
    );
    is_api.store(false, Ordering::SeqCst);
    assert_eq!(detected(&base).await.unwrap(), Source::Url(base.clone()));
    let document_url = server.url("/r.json");
    assert_eq!(
        detected(&document_url).await.unwrap(),
        Source::Url(document_url.clone())
    );
    assert!(
        detected(&server.url("/empty.json"))
            .await
            .unwrap_err()
            .to_string()
            .contains("no servers")
    );
    let error = detected(&server.url("/unusable.json")).await.unwrap_err();
    assert!(
        error.to_string().contains("none of its servers can be used"),
        "{error}"
    );

    let path = folder.path().join("r.json");
    std::fs::write(&path, document(&["a/one"])).unwrap();
    let text = path.to_str().unwrap();
    assert_eq!(detected(text).await.unwrap(), Source::File(path.clone()));
    assert_eq!(
        detected(&format!("file://{text}")).await.unwrap(),
        Source::File(path.clone())
    );
    assert_eq!(
        detected(&format!("{text}.txt")).await.unwrap_err().code(),
        "registry_invalid"
    );
    assert_eq!(
        detected(&format!("{text}.missing.json"))
            .await
            .unwrap_err()
            .code(),
        "registry_unavailable"
    );
}
