//! Layers made by their types, in an order that is data.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{run_server, wire, with_wire};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use thv_core::{Json, MiddlewareConfig};
use thv_proxy::{
    Body, BridgeConfig, Layer, MiddlewareFactory, ProxyError, ProxyService, ReverseProxy, ReverseProxyConfig,
    StdioBridge,
};
use tower::util::MapResponseLayer;

fn entry(kind: &str, parameters: &str) -> MiddlewareConfig {
    MiddlewareConfig {
        kind: kind.to_owned(),
        parameters: Json::parse(parameters.as_bytes()).unwrap(),
        ..MiddlewareConfig::default()
    }
}

fn made(factory: &MiddlewareFactory, list: &[(&str, &str)]) -> Vec<Layer> {
    let list: Vec<_> = list.iter().map(|(kind, json)| entry(kind, json)).collect();
    factory.chain(&list).unwrap()
}

/// An embedder's type: puts its word into a header of the request, which [`echo`] shows.
fn embedders() -> MiddlewareFactory {
    MiddlewareFactory::new().with("com.example.mark", |parameters| {
        let word = parameters.as_object().unwrap()[0].1.as_str().unwrap().to_owned();
        Ok(Some(Layer::before(move |request| {
            let headers = request.headers_mut();
            headers.append("x-mark", word.parse().unwrap());
            None
        })))
    })
}

fn echo() -> ProxyService {
    ProxyService::new(|request: Request<Body>| async move {
        let marks = request.headers().get_all("x-mark").iter();
        let marks: Vec<_> = marks.map(|mark| mark.to_str().unwrap()).collect();
        Response::new(Body::full(marks.join(" ")))
    })
}

fn get(host: &str) -> Request<Body> {
    Request::get("/mcp")
        .header("host", host)
        .body(Body::empty())
        .unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn an_embedders_type_stands_where_the_list_has_it() {
    let factory = MiddlewareFactory::standard().and(&embedders());
    let marked = |list: &[(&str, &str)]| echo().within(&made(&factory, list));
    let outside = [
        ("com.example.mark", r#"{"word": "a"}"#),
        ("guard", "{}"),
        ("com.example.mark", r#"{"word": "b"}"#),
    ];
    assert_eq!(text(marked(&outside).ask(get("localhost")).await).await, "a b");
    let turned = [outside[2], outside[1], outside[0]];
    assert_eq!(text(marked(&turned).ask(get("localhost")).await).await, "b a");
    assert_eq!(marked(&turned).ask(get("evil.example")).await.status(), 403);

    // Its own maker of a type that is known stands in the place of ours.
    let open = factory.with("guard", |_| Ok(None));
    let service = echo().within(&made(&open, &outside));
    assert_eq!(service.ask(get("evil.example")).await.status(), 200);
}

#[tokio::test]
async fn any_tower_layer_is_a_layer_and_a_layer_is_any_tower_layer() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let layer = Layer::tower(MapResponseLayer::new(move |mut response: Response<Body>| {
        counted.fetch_add(1, Ordering::Relaxed);
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        response
    }));
    let (io, far) = wire();
    tokio::spawn(run_server(far));
    let config = BridgeConfig {
        layers: vec![layer, Layer::recovery()],
        ..BridgeConfig::default()
    };
    let bridge = StdioBridge::new(io, config).unwrap();
    let answer = bridge.into_service().ask(get("localhost")).await;
    assert_eq!(
        (answer.status(), calls.load(Ordering::Relaxed)),
        (StatusCode::IM_A_TEAPOT, 1)
    );

    let service = tower::Layer::layer(&Layer::guard(thv_proxy::GuardConfig::default()), echo());
    assert_eq!(service.ask(get("evil.example")).await.status(), 403);
}

#[tokio::test]
async fn a_panic_is_the_end_of_its_request_alone() {
    let service = ProxyService::new(|request: Request<Body>| {
        assert_ne!(request.uri().path(), "/at-once", "on purpose");
        async move {
            assert_ne!(request.uri().path(), "/later", "on purpose");
            Response::new(Body::full("well"))
        }
    });
    let service = service.within(&made(&MiddlewareFactory::standard(), &[("recovery", "null")]));
    for (path, status) in [("/at-once", 500), ("/later", 500), ("/well", 200)] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(service.ask(request).await.status(), status, "{path}");
    }
}

#[tokio::test]
async fn parameters_that_mean_nothing_are_refused_by_the_name_of_the_type() {
    let factory = MiddlewareFactory::standard();
    for (kind, parameters) in [
        ("bodylimit", r#"{"max_bytes": 0}"#),
        ("bodylimit", r#"{"max_bytes": "1"}"#),
        ("request-timeout", "{}"),
        ("request-timeout", r#"{"timeout": "0s"}"#),
        ("request-timeout", r#"{"timeout": 60}"#),
        ("guard", r#"{"any_host": "yes"}"#),
        ("guard", r#"{"allowed_hosts": "x"}"#),
        ("header-forward", r#"{"add_headers": {"Host": "x"}}"#),
        ("header-forward", r#"{"add_headers": {"X-A": 1}}"#),
        ("tool-filter", r#"{"filter_tools": "x"}"#),
        ("unheard-of", "null"),
    ] {
        let refused = factory.chain(&[entry(kind, parameters)]);
        assert!(
            matches!(refused, Err(ProxyError::Invalid { .. })),
            "{kind} {parameters}"
        );
    }
}

#[tokio::test]
async fn what_is_made_limits_the_proxy_inside_also_where_it_is_not_the_innermost() {
    let layers = made(
        &MiddlewareFactory::standard(),
        &[
            ("bodylimit", r#"{"max_bytes": 100}"#),
            ("recovery", "null"),
            ("header-forward", "{}"),
        ],
    );
    let long = || {
        // Announced to nobody: only who reads it can know.
        let pieces = futures_util::stream::iter((0..20).map(|_| Ok(bytes::Bytes::from_static(b"        "))));
        let mut request = Request::new(Body::stream(pieces));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = "/mcp".parse().unwrap();
        let json = "application/json".parse().unwrap();
        request.headers_mut().insert("content-type", json);
        request
    };
    let (io, far) = wire();
    tokio::spawn(run_server(far));
    let bridge = StdioBridge::new(
        io,
        BridgeConfig {
            layers: layers.clone(),
            ..BridgeConfig::default()
        },
    );
    let answer = bridge.unwrap().into_service().ask(long()).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let config = ReverseProxyConfig {
        layers,
        ..ReverseProxyConfig::default()
    };
    let proxy = ReverseProxy::new("http://127.0.0.1:9".parse().unwrap(), config).unwrap();
    let answer = proxy.into_service().ask(long()).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn of_several_bounds_the_least_counts_also_for_a_body_that_does_not_say_how_long_it_is() {
    let layers = || {
        vec![
            Layer::body_limit(1000),
            Layer::access_log(),
            Layer::body_limit(1 << 20),
        ]
    };
    let long = || {
        let pieces = (0..20).map(|_| Ok("1".repeat(100).into()));
        let body = Body::stream(futures_util::stream::iter(pieces));
        let request = Request::post("/mcp").header("content-type", "application/json");
        request.header("host", "localhost").body(body).unwrap()
    };
    let (io, far) = wire();
    tokio::spawn(run_server(far));
    let config = BridgeConfig {
        layers: layers(),
        ..BridgeConfig::default()
    };
    let bridge = StdioBridge::new(io, config).unwrap().into_service();
    assert_eq!(bridge.ask(long()).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let config = ReverseProxyConfig {
        layers: layers(),
        ..ReverseProxyConfig::default()
    };
    let proxy = ReverseProxy::new("http://127.0.0.1:9".parse().unwrap(), config).unwrap();
    let answer = proxy.into_service().ask(long()).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_begin_in_time_is_a_504() {
    let layers = made(
        &MiddlewareFactory::standard(),
        &[("request-timeout", r#"{"timeout": "5s"}"#)],
    );
    let silent = ProxyService::new(|_| std::future::pending()).within(&layers);
    let begun = tokio::time::Instant::now();
    let mut request = get("localhost");
    *request.method_mut() = Method::POST;
    let answer = silent.ask(request).await;
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    assert!(text(answer).await.contains("-32000"));
    // A client that listens may wait for as long as it likes.
    let listening = tokio::time::timeout(Duration::from_mins(10), silent.ask(get("localhost"))).await;
    assert!(listening.is_err());
}

#[tokio::test]
async fn a_bridge_ends_a_call_at_the_time_of_the_layer_and_tells_its_server() {
    let config = BridgeConfig {
        layers: vec![Layer::request_timeout(Duration::from_millis(50))],
        ..BridgeConfig::default()
    };
    let (served, mut far) = with_wire(config).await;
    let call = tokio::spawn(async move {
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"slow","params":{}}"#;
        served.post(None, body).await
    });
    far.handshake().await;
    assert_eq!(far.next().await.unwrap()["method"], "slow");
    assert_eq!(far.next().await.unwrap()["method"], "notifications/cancelled");
    assert_eq!(call.await.unwrap().status, 504);
}

#[tokio::test]
async fn headers_are_set_whatever_stands_around_them_and_never_shown() {
    let secret = Layer::headers(vec![("x-key".parse().unwrap(), "hush".parse().unwrap())]).unwrap();
    assert!(!format!("{secret:?}").contains("hush"), "{secret:?}");
    let shows = ProxyService::new(|request: Request<Body>| async move {
        let key = request.headers()["x-key"].to_str().unwrap().to_owned();
        Response::new(Body::full(key))
    });
    let mut request = get("localhost");
    request.headers_mut().insert("x-key", "client's".parse().unwrap());
    assert_eq!(text(shows.within(&[secret]).ask(request).await).await, "hush");
}
