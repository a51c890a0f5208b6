//! Tests of projections: round trips, rejected input, warnings, and values only in secret text.

mod common;

use bp_sandbox::Sandbox;
use bp_secrets::{
    Lint, Reference, Store as _,
    projection::{
        Bindings, ProjectionError, Renderer, ascp, ecs,
        env::{self, from_variables, to_variables},
        external_secrets::{self, ExternalSecret},
        kubernetes, lint,
    },
    reference::{ParameterRef, SecretRef, Service},
    value::Kind,
};
use common::{ACCOUNT, REGION, stores};
use proptest::{collection::btree_map, prelude::*};
use secrecy::ExposeSecret as _;
use serde_json::json;

fn bindings<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> Bindings {
    Bindings::new(all.into_iter().map(|(name, text)| (name, text.parse().unwrap()))).unwrap()
}

const ARN: &str = "arn:aws:secretsmanager:eu-central-1:111111111111:secret:prod/db-AbCdEf";

fn service(store: &str) -> Option<Service> {
    match store {
        "aws-secrets-manager" => Some(Service::SecretsManager),
        "aws-parameter-store" => Some(Service::Ssm),
        _ => None,
    }
}

fn sorted(bindings: &Bindings) -> Vec<(String, String)> {
    let mut all: Vec<_> = bindings.iter().map(|b| (b.name.clone(), b.reference.to_string())).collect();
    all.sort();
    all
}

/// Secrets by ARN, optionally also by name, with keys that contain the special characters of every syntax.
fn references(by_name: bool) -> impl Strategy<Value = Reference> {
    let key = proptest::option::of(r#"[a-z.*?|#@!{}()\[\]"'\\ ü=<>%~^-]{1,8}"#);
    let secret = (any::<bool>(), "[a-z/]{1,6}", key, 0..3).prop_map(move |(arn, name, key, version)| {
        let arn = arn || !by_name;
        let secret = if arn {
            SecretRef::by_arn(&format!("arn:aws:secretsmanager:eu-west-1:111111111111:secret:{name}-AbCdEf"))
        } else {
            SecretRef::by_name(&name)
        };
        let secret = match key {
            Some(key) => secret.unwrap().with_key(&key).unwrap(),
            None => secret.unwrap(),
        };
        Reference::from(match version {
            0 => secret,
            1 => secret.with_stage("AWSPREVIOUS").unwrap(),
            _ => secret.with_version_id("9d4cb84b-ad69-40c0-a0ab-cead36b967e8").unwrap(),
        })
    });
    let parameter = ("(/[b-r]{1,4}){1,3}|secretsmanager", 0..3).prop_map(|(name, version)| {
        let parameter = ParameterRef::by_name(&name).unwrap();
        Reference::from(match version {
            0 => parameter,
            1 => parameter.with_selector("3").unwrap(),
            _ => parameter.with_selector("blue").unwrap(),
        })
    });
    prop_oneof![secret, parameter]
}

fn any_bindings(by_name: bool) -> impl Strategy<Value = Bindings> {
    btree_map("[A-Z_][A-Z0-9_]{0,8}", references(by_name), 0..8).prop_map(|all| Bindings::new(all).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn ecs_round_trips(bindings in any_bindings(false)) {
        prop_assert_eq!(ecs::parse(&ecs::print(&bindings).unwrap()).unwrap(), bindings);
    }

    #[test]
    fn external_secrets_round_trip(bindings in any_bindings(true)) {
        let object = ExternalSecret::new("web").print(&bindings);
        prop_assert_eq!(ExternalSecret::parse(&object, service).unwrap(), bindings);
    }

    #[test]
    fn secret_provider_classes_round_trip(bindings in any_bindings(true)) {
        // Bindings that it rejects are tested below.
        if let Ok(object) = ascp::SecretProviderClass::new("web").print(&bindings) {
            prop_assert_eq!(sorted(&ascp::SecretProviderClass::parse(&object).unwrap()), sorted(&bindings));
        }
    }

    #[test]
    fn env_and_config_maps_round_trip(bindings in any_bindings(true)) {
        prop_assert_eq!(&env::parse(&env::print(&bindings).unwrap()).unwrap(), &bindings);
        let variables = to_variables(&bindings);
        let variables = variables.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        prop_assert_eq!(&from_variables(variables).unwrap(), &bindings);
        let object = kubernetes::config_map("web", None, &bindings);
        prop_assert_eq!(sorted(&kubernetes::parse_config_map(&object).unwrap()), sorted(&bindings));
    }
}

#[test]
fn prints_a_complete_external_secret() {
    let all = bindings([
        ("PASSWORD", "secretsmanager:prod/db:pass.word:AWSPREVIOUS:"),
        ("WHOLE", &format!("{ARN}:::9d4cb84b-ad69-40c0-a0ab-cead36b967e8")),
        ("HOST", "/prod/host:3"),
    ]);
    let source = |store| json!({ "storeRef": { "kind": "ClusterSecretStore", "name": store } });
    assert_eq!(
        ExternalSecret::new("web").namespace("shop").stores("sm", "ps").immutable().print(&all),
        json!({
            "apiVersion": "external-secrets.io/v1",
            "kind": "ExternalSecret",
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": {
                "refreshInterval": "1h",
                "target": { "name": "web", "creationPolicy": "Owner", "immutable": true },
                "data": [
                    { "secretKey": "PASSWORD", "sourceRef": source("sm"), "remoteRef":
                        { "key": "prod/db", "property": "pass\\.word", "version": "AWSPREVIOUS" } },
                    { "secretKey": "WHOLE", "sourceRef": source("sm"), "remoteRef":
                        { "key": ARN, "version": "uuid/9d4cb84b-ad69-40c0-a0ab-cead36b967e8" } },
                    { "secretKey": "HOST", "sourceRef": source("ps"), "remoteRef":
                        { "key": "/prod/host", "version": "3" } },
                ],
            },
        })
    );
    let store = external_secrets::cluster_store("sm", Service::SecretsManager, REGION, ("eso", "reader"));
    assert_eq!(external_secrets::parse_store(&store).unwrap(), ("sm".to_owned(), Service::SecretsManager));
}

#[test]
fn prints_an_external_secret_with_templates_and_data_from() {
    let all = bindings([("USER", "secretsmanager:prod/db:user::"), ("HOST", "/prod/host")]);
    let whole: Reference = "secretsmanager:prod/flags::AWSPREVIOUS:".parse().unwrap();
    let object = ExternalSecret::new("web")
        .template("URL", "postgres://{{ .USER }}@{{ .HOST }}")
        .extract(whole.clone())
        .print(&all);
    assert_eq!(
        object["spec"]["target"]["template"],
        json!({ "engineVersion": "v2", "data": { "URL": "postgres://{{ .USER }}@{{ .HOST }}" } })
    );
    assert_eq!(
        object["spec"]["dataFrom"],
        json!([{
            "extract": { "key": "prod/flags", "version": "AWSPREVIOUS" },
            "sourceRef": { "storeRef": { "kind": "ClusterSecretStore", "name": "aws-secrets-manager" } },
        }])
    );
    // Templates and `dataFrom` cannot be parsed as bindings; `references` returns all of them.
    assert!(
        ExternalSecret::parse(&object, service).unwrap_err().to_string().starts_with("/spec/dataFrom takes")
    );
    let templated = ExternalSecret::new("web").template("URL", "{{ .USER }}").print(&all);
    let error = ExternalSecret::parse(&templated, service).unwrap_err().to_string();
    assert!(error.starts_with("/spec/target/template/data renders the fetched values"), "{error}");
    let mut expected = all.references();
    expected.push(whole);
    assert_eq!(ExternalSecret::references(&object, service).unwrap(), expected);

    for (entry, reason) in [
        (json!({ "find": { "name": { "regexp": "prod/.*" } } }), "`find` or a generator"),
        (
            json!({ "sourceRef": { "generatorRef": { "kind": "Password", "name": "p" } } }),
            "`find` or a generator",
        ),
        (json!({ "extract": { "key": "x" } }), "it has no `storeRef`"),
    ] {
        let object = json!({ "spec": { "dataFrom": [entry] } });
        let error = ExternalSecret::references(&object, service).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_secret_provider_class_has_one_object_for_all_keys_of_a_secret() {
    let all = bindings([
        ("USER", &*format!("{ARN}:user::")),
        ("PASSWORD", &format!("{ARN}:pass-word::")),
        ("HOST", "/prod/host:blue"),
    ]);
    let class = ascp::SecretProviderClass::new("web").failover_region("eu-west-1").synced("web-env");
    let object = class.print(&all).unwrap();
    let objects: serde_json::Value =
        serde_json::from_str(object["spec"]["parameters"]["objects"].as_str().unwrap()).unwrap();
    assert_eq!(
        objects,
        json!([
            { "objectName": "/prod/host", "objectType": "ssmparameter", "objectAlias": "HOST",
              "objectVersionLabel": "blue" },
            { "objectName": ARN, "objectType": "secretsmanager", "objectAlias": "prod_db-AbCdEf.whole",
              "failoverObject": { "objectName": ARN.replace("eu-central-1", "eu-west-1") },
              "jmesPath": [
                  { "path": "user", "objectAlias": "USER" },
                  { "path": "\"pass-word\"", "objectAlias": "PASSWORD" },
              ] },
        ])
    );
    assert_eq!(object["spec"]["parameters"]["region"], "eu-central-1");
    assert_eq!(
        object["spec"]["secretObjects"][0]["data"][1],
        json!({ "objectName": "PASSWORD", "key": "PASSWORD" })
    );
}

#[test]
fn rejects_references_that_a_format_cannot_express() {
    let refused = |result: Result<serde_json::Value, ProjectionError>| result.unwrap_err().to_string();
    let by_name = bindings([("A", "secretsmanager:prod/db")]);
    assert!(refused(ecs::print(&by_name)).contains("requires the ARN of a secret"));

    let class = ascp::SecretProviderClass::new("web");
    let versions = bindings([("A", "secretsmanager:db:a::"), ("B", "secretsmanager:db:a:AWSPREVIOUS:")]);
    assert!(refused(class.print(&versions)).contains("one version of a secret"));
    let twice = bindings([("A", "secretsmanager:db"), ("B", "secretsmanager:db")]);
    assert!(refused(class.print(&twice)).contains("one name for a whole value"));
    let regions = bindings([("A", ARN), ("B", &*ARN.replace("eu-central-1", "eu-west-1"))]);
    assert!(refused(class.print(&regions)).contains("one class supports one region"));
    assert!(env::print(&bindings([("a.b", "/x")])).is_err());
    assert!(Bindings::new([("A", "/x".parse().unwrap()), ("A", "/y".parse().unwrap())]).is_err());
    assert!(Bindings::new([("", "/x".parse().unwrap())]).is_err());
}

#[test]
fn rejects_objects_that_it_would_misinterpret() {
    let entry = |remote: serde_json::Value| {
        let object = json!({ "spec": { "secretStoreRef": { "name": "aws-secrets-manager" },
            "data": [{ "secretKey": "A", "remoteRef": remote }] } });
        ExternalSecret::parse(&object, service).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(entry(json!({ "key": "db", "property": "pass-word" })), Ok(()));
    for path in ["a.#", "@this", "{a,b}", "a*"] {
        assert!(
            entry(json!({ "key": "db", "property": path })).unwrap_err().contains("is a query"),
            "{path}"
        );
    }
    assert!(entry(json!({ "property": "a" })).unwrap_err().contains("/remoteRef/key"));
    assert_eq!(entry(json!({ "key": "db", "decodingStrategy": "None", "metadataPolicy": "None" })), Ok(()));
    for (field, value) in
        [("decodingStrategy", "Base64"), ("decodingStrategy", "Auto"), ("metadataPolicy", "Fetch")]
    {
        let error = entry(json!({ "key": "db", field: value })).unwrap_err();
        assert!(error.contains(&format!("its {field} changes the value")), "{error}");
    }
    assert!(
        ecs::parse(&json!([{ "name": "A", "valueFrom": "secretsmanager:x" }])).is_ok(),
        "a parameter's label"
    );
    assert!(ecs::parse(&json!([{ "name": "A", "valueFrom": format!("{ARN}:key") }])).is_err());
    assert!(ecs::parse(&json!({ "secrets": [] })).is_err());

    let class = |objects: &str| {
        let object = json!({ "spec": { "parameters": { "objects": objects } } });
        ascp::SecretProviderClass::parse(&object).map(|b| sorted(&b)).map_err(|e| e.to_string())
    };
    let path = r#"[{"objectName": "db", "objectType": "secretsmanager", "jmesPath": [{"path": "a-b", "objectAlias": "A"}]}]"#;
    assert!(class(path).unwrap_err().contains("jmesPath"), "a hyphen without quotes");
    assert!(class("not a list").is_err());
}

#[cfg(feature = "yaml")]
#[test]
fn parses_a_secret_provider_class_with_yaml_objects() {
    let text = r#"
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: { name: web }
spec:
  provider: aws
  parameters:
    objects: |
      - objectName: prod/db
        objectType: secretsmanager
        objectVersionLabel: AWSPREVIOUS
        jmesPath:
          - path: '"pass-word"'
            objectAlias: PASSWORD
      - objectName: /prod/host
        objectType: ssmparameter
"#;
    let class = bp_secrets::projection::from_yaml(text).unwrap();
    assert_eq!(
        sorted(&ascp::SecretProviderClass::parse(&class).unwrap()),
        [
            ("PASSWORD".to_owned(), "secretsmanager:prod/db:pass-word:AWSPREVIOUS:".to_owned()),
            ("prod_host".to_owned(), "/prod/host".to_owned()),
        ]
    );
}

#[test]
fn parses_env_files_with_comments_exports_and_quotes() {
    let file = "# where the secrets are\n\nexport A=/a # the first\n B = 'secretsmanager:prod/db:it'\\''s::'\nC=\"/c:3\"\n";
    assert_eq!(
        sorted(&env::parse(file).unwrap()),
        sorted(&bindings([("A", "/a"), ("B", "secretsmanager:prod/db:it's::"), ("C", "/c:3"),]))
    );
    for (file, says) in [
        ("A", "line 1 is not NAME"),
        ("\nA='x", "line 2 has an unterminated quote"),
        ("A='/x' y", "line 1 has an"),
        ("A b=/x", "line 1 has a name"),
        ("=/x", "line 1 has a name"),
    ] {
        let error = env::parse(file).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
    // An .env file that contains secrets instead of references.
    for file in ["PASSWORD=canary secret!", "PASSWORD canary", "PASS=WORD='canary", "the canary=is here"] {
        let error = env::parse(file).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

#[test]
fn comments_follow_references_with_and_without_quotes() {
    let file = "A='/a' # why\nB=\"/b\"# why\nC=/c\t# why\nD='/d'";
    let expected = bindings([("A", "/a"), ("B", "/b"), ("C", "/c"), ("D", "/d")]);
    assert_eq!(env::parse(file).unwrap(), expected);
}

/// For a `Secret` of type `kubernetes.io/tls`, whose keys are not names of variables.
#[test]
fn binds_keys_of_a_tls_secret() {
    let all =
        env::parse("tls.crt=secretsmanager:prod/tls:crt::\ntls.key=secretsmanager:prod/tls:key::").unwrap();
    let object = ExternalSecret::new("tls").secret_type("kubernetes.io/tls").print(&all);
    assert_eq!(object["spec"]["target"]["template"], json!({ "type": "kubernetes.io/tls" }));
    assert_eq!(ExternalSecret::parse(&object, service).unwrap(), all);
    let templated = ExternalSecret::new("tls").secret_type("kubernetes.io/tls").template("a", "{{ .b }}");
    assert_eq!(templated.print(&all)["spec"]["target"]["template"]["type"], "kubernetes.io/tls");
    assert!(env::print(&all).is_err(), "their names are not those of variables");
}

/// The operator looks for a key with the name `tls.crt` first, and then for a path.
#[test]
fn a_property_with_a_dot_is_a_key_or_the_whole_secret() {
    let object = |property: &str| {
        json!({ "spec": { "secretStoreRef": { "name": "aws-secrets-manager" },
            "data": [{ "secretKey": "A", "remoteRef": { "key": "prod/tls", "property": property } }] } })
    };
    for (property, bound, referenced) in [
        ("tls.crt", Some("secretsmanager:prod/tls:tls.crt::"), "secretsmanager:prod/tls"),
        (r"tls\.crt", Some("secretsmanager:prod/tls:tls.crt::"), "secretsmanager:prod/tls:tls.crt::"),
        ("crt", Some("secretsmanager:prod/tls:crt::"), "secretsmanager:prod/tls:crt::"),
        ("users.#.name", None, "secretsmanager:prod/tls"),
    ] {
        let references = ExternalSecret::references(&object(property), service).unwrap();
        assert_eq!(references, [referenced.parse::<Reference>().unwrap()], "{property}");
        let parsed = ExternalSecret::parse(&object(property), service).ok();
        let parsed = parsed.map(|bindings| bindings.references()[0].to_string());
        assert_eq!(parsed.as_deref(), bound, "{property}");
    }
}

#[test]
fn warns_about_references_that_render_unexpectedly() {
    let codes = |renderer, bindings: &Bindings| -> Vec<String> {
        lint(renderer, bindings).iter().map(|w| format!("{} {}", w.name, w.lint.code())).collect()
    };
    let all = bindings([
        ("A", &*format!("{ARN}:a-b::")),
        ("B", &format!("{ARN}:b::")),
        ("C", "/c:3"),
        ("D", "arn:aws:secretsmanager:eu-central-1:111111111111:secret:bare"),
    ]);
    assert_eq!(codes(Renderer::Ecs, &all), ["A many-calls", "C selector", "D no-suffix"]);
    assert_eq!(codes(Renderer::Ascp, &all), ["A quoted-path"]);
    assert_eq!(codes(Renderer::ExternalSecrets, &all), [""; 0]);
    assert_eq!(Lint::of(Renderer::Ascp, Kind::Number), Some(Lint::NotText));
    assert_eq!(Lint::of(Renderer::Ecs, Kind::Number), None);
    assert_eq!(Lint::of(Renderer::Ecs, Kind::Binary), Some(Lint::Binary));
}

#[tokio::test(start_paused = true)]
async fn values_are_printed_as_secret_text_only() {
    let sandbox = Sandbox::builder().build();
    let secrets = sandbox.aws().secretsmanager(ACCOUNT, REGION);
    secrets.create("db", "it's a canary\n$HOME");
    secrets.create_binary("key", b"\x00\xff");
    let all = bindings([("TEXT", "secretsmanager:db"), ("KEY", "secretsmanager:key")]);
    let fetched: Vec<_> =
        stores(&sandbox).fetch(&all.references()).await.into_iter().map(Result::unwrap).collect();

    let file = env::print_values([("TEXT", &fetched[0])]).unwrap();
    assert_eq!(file.expose_secret(), "TEXT='it'\\''s a canary\n$HOME'\n");
    // A shell parses it to the same value.
    let shell = std::process::Command::new("sh")
        .args(["-c", &format!("{}printf %s \"$TEXT\"", file.expose_secret())])
        .output()
        .unwrap();
    assert_eq!(shell.stdout, b"it's a canary\n$HOME");
    assert!(env::print_values([("KEY", &fetched[1])]).is_err());

    let values = all.iter().zip(&fetched).map(|(b, f)| (b.name.as_str(), &b.reference, f));
    let manifest = kubernetes::secret("web", Some("shop"), values).unwrap();
    assert!(!format!("{manifest:?}").contains("aXQ"));
    let object: serde_json::Value = serde_json::from_str(manifest.expose_secret()).unwrap();
    assert_eq!(object["kind"], "Secret");
    assert_eq!(object["metadata"]["namespace"], "shop");
    assert_eq!(object["data"], json!({ "TEXT": "aXQncyBhIGNhbmFyeQokSE9NRQ==", "KEY": "AP8=" }));
    assert_eq!(sorted(&kubernetes::parse_secret(&object).unwrap()), sorted(&all));
    let none = kubernetes::secret("web", None, []).unwrap();
    let none: serde_json::Value = serde_json::from_str(none.expose_secret()).unwrap();
    assert_eq!(none["data"], json!({}));
}
