//! Connections: rejected callers (401) with the lookup of their EKS access entry, and outages of the EKS API, on the
//! sandbox in memory with a paused clock.

mod common;

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use bp_artifact::{error::Classified, time::TimeSource};
use bp_eks::{Cluster, ConnectError, Connector, Error, Options, connect::AccessEntry};
use bp_sandbox::{Fault, kube::SECRET_ACCESS_KEY};
use serde_json::json;

use common::{World, chain, connector};

const SESSION: &str = "arn:aws:sts::111111111111:assumed-role/deploy/build-7";
const ROLE: &str = "arn:aws:iam::111111111111:role/deploy";

/// The credentials belong to a role session.
async fn world() -> World {
    let world = World::new().await;
    world.sandbox.aws().access_key_as("AKIASANDBOX", "111111111111", SESSION);
    world
}

/// The error of a call to the cluster.
async fn refused(world: &World, caller: Option<&str>) -> String {
    let caller = caller.map(str::to_owned);
    let connector = connector(&world.sandbox, "shop").caller(move || std::future::ready(caller.clone()));
    let client = connector.connect_with(world.sandbox.transport()).await.unwrap();
    let options = Options::new(std::time::Duration::from_secs(60)).unwrap();
    let namespace = Cluster::new(client, "shop").namespace("prod");
    let target = namespace.workload("deployment/web".parse().unwrap(), options).container("web");
    let error = target.current().await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    chain(&error)
}

#[tokio::test(start_paused = true)]
async fn reports_the_missing_access_entry_and_the_command_to_create_it() {
    let world = world().await;
    world.cluster.access_entries(&["arn:aws:iam::111111111111:role/admin"]);
    let said = refused(&world, Some(SESSION)).await;
    assert!(
        said.starts_with("the cluster \"shop\" does not accept this identity: no access entry"),
        "{said}"
    );
    let command = format!(
        "aws eks create-access-entry --cluster-name shop --region eu-central-1 --principal-arn {ROLE} \
         --kubernetes-groups bp-deployers"
    );
    assert!(said.contains(&command), "{said}");
    assert!(said.contains("kube-system/aws-auth, which is read too"), "{said}");
    // Signed again once; one lookup of the caller, the cluster, the entry, and the entries with a path.
    let ledger = world.sandbox.ledger();
    assert_eq!(ledger.count_of("get deployments"), 2);
    assert_eq!(ledger.count_of("eks:DescribeAccessEntry"), 1);

    // Without the caller's ARN: generic advice.
    let said = refused(&world, None).await;
    assert!(said.contains("--principal-arn <role>"), "{said}");
    assert_eq!(ledger.count_of("eks:DescribeAccessEntry"), 1);

    // The command fixes it.
    world.cluster.access_entries(&[ROLE]);
    assert!(world.target().current().await.is_ok());
    // So does an entry with the role's path, which session ARNs omit.
    world.cluster.access_entries(&["arn:aws:iam::111111111111:role/ci/deploy"]);
    assert!(world.target().current().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_that_is_too_long_is_the_first_reason() {
    let world = world().await;
    let refused = async |session: usize| {
        let session = Some("t".repeat(session));
        let credentials = Credentials::new("AKIASANDBOX", SECRET_ACCESS_KEY, session, None, "test");
        let clock = world.sandbox.clock().clone();
        let connector = Connector::new(
            common::eks(&world.sandbox),
            SharedCredentialsProvider::new(credentials),
            "eu-central-1",
            "shop",
        );
        let connector = connector.time_source(TimeSource::from_fn(move || clock.now()));
        let connector = connector.caller(|| std::future::ready(Some(SESSION.to_owned())));
        let client = connector.connect_with(world.sandbox.transport()).await.unwrap();
        let options = Options::new(std::time::Duration::from_secs(60)).unwrap();
        let namespace = Cluster::new(client, "shop").namespace("prod");
        namespace.workload("deployment/web".parse().unwrap(), options).container("web").current().await
    };
    assert!(refused(1000).await.is_ok(), "the sandbox accepts session tokens");
    let error = refused(4096).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    let said = chain(&error);
    assert!(said.contains("characters, and aws-iam-authenticator accepts 4096"), "{said}");
    assert!(said.contains("session tags") && said.contains("; otherwise, "), "{said}");
}

#[tokio::test(start_paused = true)]
async fn looks_up_the_access_entry_once_for_many_rejected_requests() {
    let world = world().await;
    world.cluster.access_entries(&[]);
    let connector = connector(&world.sandbox, "shop").caller(|| std::future::ready(Some(SESSION.to_owned())));
    let client = connector.connect_with(world.sandbox.transport()).await.unwrap();
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(client, "prod");
    let params = kube::api::ListParams::default();
    let all = futures_util::future::join_all((0..5).map(|_| pods.list(&params))).await;
    for answer in all {
        // Direct users of the client get a 401 with the explanation as its message.
        let Err(kube::Error::Api(status)) = answer else { panic!("{answer:?}") };
        assert_eq!((status.code, status.reason.as_str()), (401, "Unauthorized"));
        assert!(status.message.contains("create-access-entry"), "{status}");
    }
    assert_eq!(world.sandbox.ledger().count_of("eks:DescribeAccessEntry"), 1);
}

#[tokio::test(start_paused = true)]
async fn detects_a_cluster_that_only_reads_aws_auth() {
    let world = world().await;
    world.cluster.authentication_mode("CONFIG_MAP");
    let said = refused(&world, Some(SESSION)).await;
    assert!(said.contains("authentication mode is CONFIG_MAP"), "{said}");
    assert!(said.contains(&format!("--arn {ROLE} --username bp --group bp-deployers")), "{said}");
    assert_eq!(world.sandbox.ledger().count_of("eks:DescribeAccessEntry"), 0, "there are no access entries");

    world.cluster.create(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "aws-auth", "namespace": "kube-system" },
        "data": { "mapRoles": format!("- rolearn: {ROLE}\n  username: ci\n  groups: [bp-deployers]\n") },
    }));
    assert!(world.target().current().await.is_ok());
    // In aws-auth an entry with a path matches no caller, and access entries are not read.
    let with_path =
        json!({ "data": { "mapRoles": "- rolearn: arn:aws:iam::111111111111:role/ci/deploy\n" } });
    world.cluster.patch("kubectl", "configmaps", "kube-system", "aws-auth", &with_path);
    world.cluster.access_entries(&[ROLE]);
    assert!(refused(&world, Some(SESSION)).await.contains("CONFIG_MAP"));
}

#[tokio::test(start_paused = true)]
async fn reports_a_denied_lookup() {
    let world = world().await;
    world.cluster.access_entries(&[]);
    for action in ["eks:ListAccessEntries", "eks:DescribeAccessEntry"] {
        world.sandbox.aws().deny(action);
        let said = refused(&world, Some(SESSION)).await;
        assert!(said.contains(&format!("because {action} failed (AccessDeniedException")), "{said}");
        assert!(said.contains("create-access-entry") && said.contains("describe-access-entry"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn explains_an_existing_access_entry_that_does_not_help() {
    let world = world().await;
    world.cluster.access_entries(&["arn:aws:iam::111111111111:role/ci/deploy"]);
    let access = connector(&world.sandbox, "shop").access(SESSION).await.unwrap();
    assert_eq!(
        access.principal, "arn:aws:iam::111111111111:role/ci/deploy",
        "with the path that the entry has"
    );
    assert_eq!(access.entry, AccessEntry::Present { groups: vec![] });
    assert!(access.to_string().contains("deleted and recreated"), "{access}");
    let user = connector(&world.sandbox, "shop").access("arn:aws:iam::111111111111:user/ada").await.unwrap();
    assert_eq!(user.entry, AccessEntry::Missing);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_eks_api_is_waited_for_or_bridged_by_a_known_cluster() {
    let world = World::new().await;
    let outage = |times| {
        world.sandbox.faults().inject(Fault::status(503).on("eks:DescribeCluster").times(times));
    };
    let connector = || connector(&world.sandbox, "shop");
    let known = connector().describe().await.unwrap();
    outage(20);
    let begun = tokio::time::Instant::now();
    let patient = connector().retry_for(std::time::Duration::from_secs(300));
    assert!(patient.connect_with(world.sandbox.transport()).await.is_ok());
    assert!(begun.elapsed() > std::time::Duration::from_secs(1), "{:?}", begun.elapsed());

    outage(u32::MAX);
    let begun = tokio::time::Instant::now();
    let limited = connector().retry_for(std::time::Duration::from_secs(30));
    let error = limited.connect_with(world.sandbox.transport()).await.err().unwrap();
    assert!(matches!(error, ConnectError::Unavailable { .. }) && error.is_retryable(), "{error:?}");
    assert!((30..120).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());

    let bridged = connector().known_cluster(known).connect_with(world.sandbox.transport()).await.unwrap();
    let options = Options::new(std::time::Duration::from_secs(60)).unwrap();
    let namespace = Cluster::new(bridged, "shop").namespace("prod");
    let target = namespace.workload("deployment/web".parse().unwrap(), options).container("web");
    assert!(target.current().await.is_ok(), "the cluster does not depend on the EKS API");
}
