//! A rollout over loopback sockets: TLS with the cluster's certificate authority, and a kubeconfig.

mod common;

use std::time::Duration;

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_eks::config::{BehaviorVersion, Region};
use base64::{Engine, engine::general_purpose::STANDARD};
use bp_artifact::{Verdict, time::TimeSource};
use bp_eks::{Cluster, Connector, Options, from_kubeconfig};
use bp_sandbox::{
    Behaviour, Clock, Effect, Fault, Sandbox,
    kube::{ClusterOptions, SECRET_ACCESS_KEY},
    registry::RegistryOptions,
};
use serde_json::json;

use common::{REGISTRY, push};

#[tokio::test(flavor = "multi_thread")]
async fn rolls_out_over_tls_by_name_and_by_kubeconfig() {
    let sandbox = Sandbox::builder()
        .clock(Clock::accelerated(50))
        .registry(REGISTRY, RegistryOptions::default())
        .cluster("shop", ClusterOptions::default())
        .build();
    let served = sandbox.serve().await.unwrap();
    let cluster = sandbox.cluster("shop");
    let first = push(&sandbox, "first", Behaviour::default());
    let image = first.reference.to_string();
    cluster.deployment("prod", "web", &[("web", image.as_str())]);

    let credentials = Credentials::new("AKIASANDBOX", SECRET_ACCESS_KEY, None, None, "test");
    let config = aws_sdk_eks::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials.clone())
        .endpoint_url(format!("http://{}", served.address("aws").unwrap()))
        .build();
    let clock = sandbox.clock().clone();
    let connector = Connector::new(
        aws_sdk_eks::Client::from_conf(config),
        SharedCredentialsProvider::new(credentials),
        "eu-central-1",
        "shop",
    )
    .time_source(TimeSource::from_fn(move || clock.now()));
    let client = connector.connect().await.unwrap();
    let target = |client| {
        let options = Options::new(Duration::from_secs(20)).unwrap().take_over(true);
        let namespace = Cluster::new(client, "shop").namespace("prod");
        namespace.workload("deployment/web".parse().unwrap(), options)
    };
    let second = push(&sandbox, "second", Behaviour::default());
    let outcome = target(client).deploy(&second).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");

    // While the certificate authority is rotated there are two, and servers have certificates of either.
    let server = format!("https://{}", served.address(cluster.host()).unwrap());
    let authorities = format!("{}{}", Sandbox::builder().build().ca_pem(), sandbox.ca_pem());
    let description = json!({ "cluster": {
        "name": "shop", "status": "UPDATING", "endpoint": server,
        "certificateAuthority": { "data": STANDARD.encode(&authorities) },
    } });
    let answer = Effect::Answer { status: 200, headers: Vec::new(), body: description.to_string() };
    sandbox.faults().inject(Fault::new(answer).on("eks:DescribeCluster"));
    let client = connector.connect().await.unwrap();
    assert_eq!(target(client).prove().await.unwrap().judge(&second), Verdict::Deployed);

    let path = std::env::temp_dir().join(format!("bp-eks-kubeconfig-{}", std::process::id()));
    std::fs::write(&path, cluster.kubeconfig(&server, &authorities)).unwrap();
    let client = from_kubeconfig(Some(&path), Some("shop")).await;
    std::fs::remove_file(&path).unwrap();
    let proof = target(client.unwrap()).prove().await.unwrap();
    assert_eq!(proof.judge(&second), Verdict::Deployed, "{proof:?}");
}
