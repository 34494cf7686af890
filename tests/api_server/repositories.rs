//! Where repositories may lie, by the API server's own words.

use serde_json::{Value, json};

use super::*;

fn s3(more: Value) -> Value {
    let mut s3 = json!({"endpoint": "https://s3.example.org", "bucket": "backups", "credentialsSecret": {"name": "s3"}});
    s3.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"s3": s3, "volume": null})
}

#[tokio::test]
async fn a_repository_is_a_volume_or_s3_and_its_endpoint_a_server_and_nothing_more() {
    let world = World::new("repositories").await;
    let target = api(&world.admin(), &world.production, "Environment");
    let dry = PatchParams { dry_run: true, field_validation: Some(ValidationDirective::Strict), ..PatchParams::default() };
    let asked = async |spec: Value| target.patch("production", &dry, &merge(json!({"spec": spec}))).await;
    let backups = async |repository: Value| asked(json!({"backups": {"repository": repository}})).await;

    let plain = backups(s3(json!({}))).await.unwrap();
    assert_eq!(plain.data["spec"]["backups"]["repository"]["s3"]["region"], "us-east-1");
    for good in [
        json!({"endpoint": "http://10.99.0.1:7070/"}),
        json!({"endpoint": "https://[2001:db8::1]:9000"}),
        json!({"endpoint": "http://minio.storage.svc.cluster.local:9000", "region": "eu-south-2", "prefix": "shop/production_1.a"}),
        json!({"bucket": "a.b-c"}),
    ] {
        backups(s3(good.clone())).await.unwrap_or_else(|error| panic!("{good}: {error}"));
    }
    for (bad, words) in [
        (json!({"endpoint": "s3.example.org"}), "endpoint"),
        (json!({"endpoint": "ftp://s3.example.org"}), "endpoint"),
        (json!({"endpoint": "file:///etc/passwd"}), "endpoint"),
        (json!({"endpoint": "https://key:secret@s3.example.org"}), "endpoint"),
        (json!({"endpoint": "https://s3.example.org/backups"}), "endpoint"),
        (json!({"endpoint": "https://s3.example.org?x=y"}), "endpoint"),
        (json!({"endpoint": "https://s3.example.org\n"}), "endpoint"),
        (json!({"endpoint": format!("https://{}", "a".repeat(300))}), "endpoint"),
        (json!({"endpoint": "http://169.254.169.254"}), "metadata is no S3 server"),
        (json!({"endpoint": "http://169.254.170.2:80/"}), "metadata is no S3 server"),
        (json!({"endpoint": "http://METADATA.google.internal"}), "metadata is no S3 server"),
        (json!({"endpoint": "http://[fd00:ec2::254]"}), "metadata is no S3 server"),
        (json!({"endpoint": "http://[fe80::1]:80"}), "metadata is no S3 server"),
        (json!({"endpoint": "http://100.100.100.200"}), "metadata is no S3 server"),
        (json!({"endpoint": null}), "endpoint"),
        (json!({"region": ""}), "region"),
        (json!({"region": "eu south"}), "region"),
        (json!({"bucket": "ab"}), "bucket"),
        (json!({"bucket": "Backups"}), "bucket"),
        (json!({"bucket": "../etc"}), "bucket"),
        (json!({"bucket": "b".repeat(64)}), "bucket"),
        (json!({"prefix": "/shop"}), "prefix"),
        (json!({"prefix": "shop/"}), "prefix"),
        (json!({"prefix": "shop//production"}), "prefix"),
        (json!({"prefix": "shop/../staging"}), "no part of it is . or .."),
        (json!({"prefix": "."}), "no part of it is . or .."),
        (json!({"prefix": "p".repeat(513)}), "prefix"),
        (json!({"credentialsSecret": null}), "credentialsSecret"),
        (json!({"accessKey": "AKIA"}), "unknown field"),
    ] {
        let error = backups(s3(bad.clone())).await.err().unwrap_or_else(|| panic!("{bad} is taken")).to_string();
        assert!(error.contains(words), "{bad}: {error}");
    }
    let both = json!({"s3": s3(json!({}))["s3"]});
    for bad in [both, json!({"volume": null})] {
        let error = backups(bad).await.unwrap_err().to_string();
        assert!(error.contains("exactly one of: volume, s3"), "{error}");
    }

    // Masked data never goes where backups are.
    let place = |prefix: Value, password: &str| json!({"repository": s3(json!({"prefix": prefix})), "passwordSecret": {"name": password}});
    let of = |backups: Value, exchange: Value| json!({"backups": backups, "exchange": exchange});
    for (backups, exchange, good) in [
        (place(json!("a"), "k"), place(json!("b"), "x"), true),
        (place(Value::Null, "k"), place(json!("b"), "x"), true),
        (place(json!("a"), "k"), place(json!("a"), "x"), false),
        (place(Value::Null, "k"), place(Value::Null, "x"), false),
        (place(json!("a"), "k"), place(json!("b"), "k"), false),
    ] {
        let answer = asked(of(backups, exchange)).await;
        match answer {
            Ok(_) => assert!(good, "the same place or password for both"),
            Err(error) => assert!(!good && error.to_string().contains("masked data never goes where backups are"), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_server_for_proofs_is_named_by_its_secret_and_nothing_else() {
    let world = World::new("proof-server").await;
    let target = api(&world.admin(), &world.production, "Environment");
    let dry = PatchParams { dry_run: true, field_validation: Some(ValidationDirective::Strict), ..PatchParams::default() };
    let proof =
        async |proof: Value| target.patch("production", &dry, &merge(json!({"spec": {"backups": {"proof": proof}}}))).await;
    let there = proof(json!({"connectionSecret": {"name": "prover"}})).await.unwrap();
    assert_eq!(there.data["spec"]["backups"]["proof"]["connectionSecret"]["name"], "prover");
    for (bad, words) in [
        (json!({}), "connectionSecret"),
        (json!({"connectionSecret": {}}), "name"),
        (json!({"connectionSecret": {"name": ""}}), "name"),
        (json!({"connectionSecret": {"name": "No Name"}}), "name"),
        (json!({"connectionSecret": {"name": "prover", "namespace": "other"}}), "unknown field"),
        (json!({"connectionSecret": {"name": "prover"}, "host": "db"}), "unknown field"),
    ] {
        let error = proof(bad.clone()).await.err().unwrap_or_else(|| panic!("{bad} is taken")).to_string();
        assert!(error.contains(words), "{bad}: {error}");
    }
}
