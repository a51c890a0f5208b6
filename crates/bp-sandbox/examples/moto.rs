//! Serve the AWS APIs at one address, in place of moto's server: `POST /moto-api/reset` starts a new sandbox.
//!
//! moto's own tests run against it: `TEST_SERVER_MODE=true TEST_SERVER_MODE_ENDPOINT=http://127.0.0.1:5000 pytest`,
//! after `cargo run -p bp-sandbox --example moto -- 127.0.0.1:5000`.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
};

use bp_sandbox::{Body, Sandbox, TransportError, registry::RegistryOptions};
use http::{Request, Response, Uri};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

/// The account and the access key of moto's tests.
const ACCOUNT: &str = "123456789012";
const ACCESS_KEY: &str = "FOOBARKEY";
/// The regions in which moto's tests create repositories.
const REGIONS: [&str; 6] = ["us-east-1", "us-east-2", "us-west-1", "us-west-2", "eu-central-1", "eu-west-1"];
/// Any host of the AWS APIs: the request's signature selects the service.
const HOST: &str = "api.us-east-1.amazonaws.com";

fn sandbox() -> Sandbox {
    let registry = |region: &str| format!("{ACCOUNT}.dkr.ecr.{region}.amazonaws.com");
    let builder = REGIONS.iter().fold(Sandbox::builder(), |builder, region| {
        builder.registry(&registry(region), RegistryOptions::ecr())
    });
    let sandbox = builder.build();
    sandbox.aws().access_key(ACCESS_KEY, ACCOUNT);
    sandbox
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:5000".to_owned());
    let current = Arc::new(Mutex::new(sandbox()));
    let listener = TcpListener::bind(address).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        let current = Arc::clone(&current);
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(Arc::clone(&current), request));
            // A client that closes its connection is not an error.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

async fn respond(
    current: Arc<Mutex<Sandbox>>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, TransportError> {
    let reset = request.uri().path() == "/moto-api/reset";
    let sandbox = {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if reset {
            *current = sandbox();
        }
        current.clone()
    };
    if reset {
        return Ok(Response::new(Body::empty()));
    }
    let path = request.uri().path_and_query().cloned();
    let uri = Uri::builder().scheme("https").authority(HOST);
    *request.uri_mut() = uri
        .path_and_query(path.map_or_else(|| "/".to_owned(), |path| path.to_string()))
        .build()
        .map_err(|_| TransportError::BadFault)?;
    sandbox.transport().oneshot(request).await
}
