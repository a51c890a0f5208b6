//! Tests over loopback sockets with reqwest, and with a second client that reads the result.

mod common;

use std::time::Duration;

use bp_artifact::{ImageRef, resolve::Resolve as _};
use bp_promote::{
    CopyOptions, RegistryClient, copy,
    registry::{Chain, Logins, RegistryResolver},
};
use bp_sandbox::{
    ImageBuilder, Sandbox,
    registry::{Auth, RegistryOptions},
};
use common::*;
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_over_sockets_and_another_client_reads_the_result() {
    let token = Auth::token("ci", "pw", Duration::from_secs(300));
    let sandbox = Sandbox::builder()
        .registry(SRC, RegistryOptions::default().auth(token).redirect_blobs_to("s3.example.com"))
        .registry(DST, RegistryOptions::ecr())
        .build();
    let served = sandbox.serve().await.unwrap();
    let url = |host: &str| format!("http://{}", served.address(host).unwrap());
    let registry = sandbox.registry(DST);
    registry.create_repository("shop/web");
    let password = registry.log_in(Duration::from_secs(3600));

    let mut random = fastrand::Rng::with_seed(1);
    let data: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(8 << 20).collect();
    let image = ImageBuilder::new()
        .platform("linux/amd64")
        .platform("linux/arm64")
        .layer([("data", data)])
        .layer([("empty", "")])
        .build();
    sandbox.registry(SRC).push(&image, "shop/web", "v1");

    let client = RegistryClient::builder()
        .endpoint(SRC.parse().unwrap(), url(SRC))
        .endpoint(DST.parse().unwrap(), url(DST))
        .endpoint("s3.example.com".parse().unwrap(), url("s3.example.com"))
        .credentials(Chain::new().then(login(SRC, "ci", "pw")).then(login(DST, "AWS", &password)))
        .build()
        .unwrap();
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{DST}/shop/web:v1").parse().unwrap());
    let report = copy(client.image(&from), client.image(&to), CopyOptions::default()).await.unwrap();
    assert_eq!(report.digest.as_str(), image.digest());
    assert_eq!(registry.tags("shop/web")["v1"], image.digest());
    assert_complete(&sandbox, DST, &image);

    let resolved = RegistryResolver::new(client).resolve(&to).await.unwrap();
    assert_eq!((resolved.digest().as_str(), resolved.platforms.len()), (image.digest(), 2));

    // oci-client verifies the digests that it reads.
    let address = served.address(DST).unwrap().to_string();
    let reader = Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let at = |reference: &str| Reference::with_digest(address.clone(), "shop/web".into(), reference.into());
    let auth = RegistryAuth::Basic("AWS".into(), password);
    let (manifest, digest) =
        reader.pull_image_manifest(&at(image.platform("linux/arm64")), &auth).await.unwrap();
    assert_eq!(digest, image.platform("linux/arm64"));
    for layer in &manifest.layers {
        let mut bytes = Vec::new();
        reader.pull_blob(&at(&digest), layer, &mut bytes).await.unwrap();
        assert_eq!(bytes.len() as i64, layer.size);
    }
}

#[tokio::test]
async fn reports_the_address_of_an_unreachable_registry() {
    let client = RegistryClient::builder()
        .credentials(Logins::new())
        .retry(bp_promote::retry::RetryPolicy::new(0))
        .build()
        .unwrap();
    // Nothing listens on port 1 of the loopback interface.
    let image: ImageRef = "127.0.0.1:1/shop/web:v1".parse().unwrap();
    let error = RegistryResolver::new(client).resolve(&image).await.unwrap_err();
    assert_eq!(error.to_string(), "the registry of 127.0.0.1:1/shop/web is unavailable");
}

#[tokio::test]
async fn gives_up_soon_on_a_registry_that_never_responded() {
    let client = RegistryClient::builder().credentials(Logins::new()).build().unwrap();
    let start = tokio::time::Instant::now();
    let image: ImageRef = "127.0.0.1:1/shop/web:v1".parse().unwrap();
    let error = RegistryResolver::new(client).resolve(&image).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("127.0.0.1:1 cannot be reached"), "{source}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

/// A server that answers each request on a connection with what `respond` returns, byte for byte.
async fn raw_server(respond: fn(&str) -> String) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = connection.read(&mut buffer).await {
                    seen.extend_from_slice(&buffer[..read]);
                    while let Some(end) = seen.windows(4).position(|part| part == b"\r\n\r\n") {
                        let head: Vec<u8> = seen.drain(..end + 4).collect();
                        let answer = respond(&String::from_utf8_lossy(&head));
                        if connection.write_all(answer.as_bytes()).await.is_err() || answer.contains("close")
                        {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_responses_that_are_framed_in_every_way() {
    const BODY: &str = r#"{"mediaType":"a/b"}"#;
    // A response to HEAD with a body; a body that ends with the connection, in chunks, of HTTP 1.0.
    let with_body: fn(&str) -> String = |head| {
        let digest = bp_artifact::Digest::sha256(BODY);
        let length = BODY.len();
        let answer =
            format!("HTTP/1.1 200 OK\r\ndocker-content-digest: {digest}\r\ncontent-length: {length}\r\n\r\n");
        assert!(head.starts_with("HEAD ") || head.starts_with("GET "), "{head}");
        format!("{answer}{BODY}")
    };
    let until_close: fn(&str) -> String = |_| format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{BODY}");
    let old: fn(&str) -> String = |_| format!("HTTP/1.0 200 OK\r\nx: close\r\n\r\n{BODY}");
    let chunked: fn(&str) -> String = |head| {
        let body = format!("{:x};a=b\r\n{BODY}\r\n0\r\nx-trailer: y\r\n\r\n", BODY.len());
        let body = if head.starts_with("HEAD") { "" } else { &body };
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}")
    };
    let no_head: fn(&str) -> String = |head| {
        if head.starts_with("HEAD") {
            return "HTTP/1.1 405 Method Not Allowed\r\nallow: GET\r\ncontent-length: 20\r\n\r\n".to_owned();
        }
        format!("HTTP/1.1 200\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len())
    };
    for (name, respond) in
        [("body", with_body), ("close", until_close), ("1.0", old), ("chunked", chunked), ("405", no_head)]
    {
        let address = raw_server(respond).await;
        let client = RegistryClient::builder().build().unwrap();
        let repository = client.repository(&format!("{address}/shop/web").parse().unwrap());
        let tag = bp_promote::content::Reference::Tag("v1".parse().unwrap());
        for _ in 0..3 {
            let found =
                repository.head(&tag).await.unwrap_or_else(|error| panic!("{name}: {error}")).unwrap();
            assert_eq!(found.digest, bp_artifact::Digest::sha256(BODY), "{name}");
            assert_eq!(repository.manifest(&tag).await.unwrap().bytes, BODY, "{name}");
        }
    }
}
