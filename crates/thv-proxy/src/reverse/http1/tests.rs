//! Against servers that say what they are told to.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

/// A connection to a server that runs `serve`.
async fn connected<F, Fut>(serve: F) -> (Connection, JoinHandle<Fut::Output>)
where
    F: FnOnce(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output: Send + 'static> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    let stream = TcpStream::connect(address).await.unwrap();
    (Connection::new(stream), server)
}

/// Reads to the end of a head.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn ask(connection: &mut Connection, body: Bytes) -> Result<Response<()>, Unanswered> {
    let host = HeaderValue::from_static("here");
    let (uri, headers) = (Uri::from_static("/mcp"), HeaderMap::new());
    connection.ask(&Method::POST, &uri, &host, &headers, body).await
}

async fn read_body(connection: &mut Connection) -> Result<Vec<u8>, WireError> {
    let mut all = Vec::new();
    while let Some(data) = std::future::poll_fn(|cx| connection.poll_data(cx)).await {
        all.extend_from_slice(&data?);
    }
    Ok(all)
}

/// What a client gets of a server that says `text`, in small pieces or at once, and closes: status, body, and whether the
/// connection could be used again.
async fn told(text: &str, slowly: bool) -> Result<(u16, String, bool), WireError> {
    let text = text.to_owned();
    let (mut connection, server) = connected(async move |mut stream: TcpStream| {
        read_head(&mut stream).await;
        if slowly {
            stream.set_nodelay(true).unwrap();
            // Of what is long the middle comes in larger pieces.
            let ends = 300.min(text.len() / 2);
            let (begin, rest) = text.as_bytes().split_at(ends);
            let (middle, end) = rest.split_at(rest.len() - ends);
            for piece in begin.chunks(1).chain(middle.chunks(61)).chain(end.chunks(1)) {
                // Whoever has heard enough hangs up.
                if stream.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        } else {
            let _ = stream.write_all(text.as_bytes()).await;
        }
    })
    .await;
    let heard = async {
        let response = ask(&mut connection, Bytes::new()).await.map_err(|it| it.reason)?;
        let body = read_body(&mut connection).await?;
        let body = String::from_utf8(body).unwrap();
        Ok((response.status().as_u16(), body, connection.is_reusable()))
    };
    let heard = heard.await;
    drop(connection);
    server.await.unwrap();
    heard
}

#[tokio::test]
async fn an_answer_is_the_same_however_it_comes() {
    let long = "x".repeat(PART * 3);
    let known = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{long}", long.len());
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    let large_head = format!("HTTP/1.1 200 OK\r\nx: {long}\r\ncontent-length: 1\r\n\r\na");
    let cases = [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            (200, "hello", true),
        ),
        ("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n", (404, "", true)),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello",
            (200, "hello", false),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello and more",
            (200, "hello", false),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            (200, "hello", true),
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhello", (200, "hello", false)),
        (
            "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            (200, "hello", false),
        ),
        ("HTTP/1.1 204 No\r\n\r\n", (204, "", true)),
        ("HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n", (204, "", true)),
        // What it says that it sends could be taken for the next answer.
        ("HTTP/1.1 204 No\r\ncontent-length: 2\r\n\r\nno", (204, "", false)),
        (
            "HTTP/1.1 204 No\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            (204, "", false),
        ),
        (
            "HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
            (200, "hi", true),
        ),
        (&known, (200, &long, true)),
        (&chunked, (200, &long, true)),
        (&large_head, (200, "a", true)),
    ];
    for (text, (status, body, reusable)) in cases {
        for slowly in [false, true] {
            // What came behind an answer may not be there yet.
            let found = told(text, slowly).await.unwrap();
            let expected = (
                status,
                body.to_owned(),
                reusable || (slowly && text.ends_with("more")),
            );
            assert_eq!(found, expected, "{slowly} {text:.200}");
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(MOST_HEAD as usize));
    let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(MOST_HEAD as usize / 20);
    type Fits = fn(&WireError) -> bool;
    let cases: [(&str, Fits); 9] = [
        ("", |error| matches!(error, WireError::NoAnswer)),
        ("HTTP/1.1 200 OK\r\ncontent-le", |error| {
            matches!(error, WireError::NoAnswer)
        }),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", |error| {
            matches!(error, WireError::CutOff)
        }),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            |error| matches!(error, WireError::CutOff),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nhello",
            |error| matches!(error, WireError::Chunk),
        ),
        ("HTTP/1.1 101 Other\r\nupgrade: x\r\n\r\n", |error| {
            matches!(error, WireError::Upgrade)
        }),
        ("SSH-2.0-OpenSSH_9.9\r\n", |error| {
            matches!(error, WireError::Head(_))
        }),
        (&endless, |error| matches!(error, WireError::HeadTooLarge)),
        (&interim, |error| matches!(error, WireError::HeadTooLarge)),
    ];
    for (text, fits) in cases {
        let error = told(text, false).await.unwrap_err();
        assert!(fits(&error), "{error:?} of {text:.200}");
    }
}

#[tokio::test]
async fn an_answer_is_heard_while_its_request_is_still_sent() {
    let (mut connection, server) = connected(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let begin = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(begin).await.unwrap();
        // The answer goes on when the request has come.
        let mut request = vec![0; 8 << 20];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(b"3\r\nall\r\n0\r\n\r\n").await.unwrap();
        stream
    })
    .await;
    let response = ask(&mut connection, Bytes::from(vec![b'x'; 8 << 20]))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!connection.is_sent(), "no server's buffer is so large");
    assert_eq!(read_body(&mut connection).await.unwrap(), b"all");
    assert!(connection.is_reusable());
    drop(server.await.unwrap());
}

#[tokio::test]
async fn an_answer_before_the_end_of_a_request_that_nobody_reads_counts() {
    let (mut connection, server) = connected(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno";
        stream.write_all(answer).await.unwrap();
        stream
    })
    .await;
    let response = ask(&mut connection, Bytes::from(vec![b'x'; 8 << 20]))
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(read_body(&mut connection).await.unwrap(), b"no");
    assert!(
        !connection.is_reusable(),
        "the rest of the request would be the next one"
    );
    drop(server.await.unwrap());
}

#[tokio::test]
async fn a_connection_that_was_closed_before_anything_was_sent_gives_the_request_back() {
    let (mut connection, server) = connected(async |stream: TcpStream| {
        stream.set_zero_linger().unwrap();
        drop(stream);
    })
    .await;
    server.await.unwrap();
    // Until it is known here too.
    let _ = connection.stream.readable().await;
    assert!(connection.is_closed());
    let unanswered = ask(&mut connection, Bytes::new()).await.unwrap_err();
    assert!(
        unanswered.unsent || matches!(unanswered.reason, WireError::NoAnswer),
        "{unanswered:?}"
    );
}
