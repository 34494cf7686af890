//! What is generated is fresh, and what is written down in two places says the same in both.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use lockkeeper::api::{
    crds, policies,
    rights::{self, Right},
};
use serde_json::Value;

/// Schemas without a bound of their own, and why that is well.
const UNBOUNDED: &[(&str, &str)] = &[(
    "spec.verification[].job.template",
    "a PodTemplateSpec: the API server checks it when the Job is made, and etcd bounds the whole",
)];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
    all.into_iter().filter(|document| !document.is_null()).collect()
}

fn named<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = documents.iter().find(|d| d["kind"] == kind && d["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn names(documents: &[Value], kind: &str) -> BTreeSet<String> {
    let of_kind = documents.iter().filter(|d| d["kind"] == kind);
    of_kind.map(|d| d["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_definitions_are_those_of_the_types() {
    for crd in crds::all() {
        let file = format!("{}.yaml", crd.spec.names.plural);
        for dir in ["crds", "charts/lockkeeper/files/crds"] {
            assert!(read(&format!("{dir}/{file}")) == crds::document(&crd), "{dir}/{file} is stale: run `make crds`");
        }
    }
    for dir in ["crds", "charts/lockkeeper/files/crds"] {
        let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)).unwrap().count();
        assert_eq!(files, crds::all().len(), "{dir} holds a file too many");
    }
}

#[test]
fn a_definition_is_found_by_kind_and_by_plural() {
    assert!(crds::yaml("Promotion").unwrap().contains("\n  name: promotions.lockkeeper.dev\n"));
    assert_eq!(crds::yaml("promotions"), crds::yaml("Promotion"));
    assert_eq!(crds::yaml("Secret"), None);
}

#[test]
fn deploy_is_rendered_from_the_chart() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/render-deploy.sh"))
        .arg(dir.path())
        .env("HELM", support::tool("helm"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = |path: &Path| -> BTreeMap<String, String> {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        entries.map(|e| (e.file_name().into_string().unwrap(), fs::read_to_string(e.path()).unwrap())).collect()
    };
    let (committed, fresh) = (listed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")), listed(dir.path()));
    assert_eq!(committed.keys().collect::<Vec<_>>(), fresh.keys().collect::<Vec<_>>());
    for (file, text) in fresh {
        assert!(committed[&file] == text, "deploy/{file} is stale: run hack/render-deploy.sh");
    }
}

/// Calls `look` with each schema below `schema` and the path of its field.
fn walk(path: &str, schema: &Value, look: &mut impl FnMut(&str, &Value)) {
    look(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, property, look);
    }
    for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            walk(&format!("{path}{suffix}"), &schema[key], look);
        }
    }
}

fn each_schema(mut look: impl FnMut(&str, &str, &Value)) {
    for crd in crds::all() {
        let kind = crd.spec.names.kind.clone();
        let schema = serde_json::to_value(crd.spec.versions[0].schema.as_ref().unwrap()).unwrap();
        walk("", &schema["openAPIV3Schema"], &mut |path, schema| look(&kind, path, schema));
    }
}

#[test]
fn every_field_says_what_it_is() {
    let mut silent = Vec::new();
    each_schema(|kind, path, schema| {
        let item = path.ends_with("[]") || path.ends_with("{}");
        if !item && schema["description"].as_str().unwrap_or_default().is_empty() {
            silent.push(format!("{kind} {path}"));
        }
    });
    assert!(silent.is_empty(), "fields without a description: {silent:#?}");
}

#[test]
fn every_string_list_map_and_number_has_bounds() {
    let mut open = Vec::new();
    each_schema(|kind, path, schema| {
        let has = |key: &str| !schema[key].is_null();
        let bounded = match schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum"),
            Some("array") => has("maxItems"),
            Some("integer" | "number") => has("minimum") && has("maximum"),
            Some("object") if has("additionalProperties") => has("maxProperties"),
            Some("object") => !has("x-kubernetes-preserve-unknown-fields"),
            Some("boolean") => true,
            _ => false,
        };
        if !bounded && !UNBOUNDED.iter().any(|(exempt, _)| *exempt == path) {
            open.push(format!("{kind} {path}: {}", schema["type"]));
        }
    });
    assert!(open.is_empty(), "fields without bounds: {open:#?}");
}

#[test]
fn no_field_is_nullable_and_no_format_is_unknown_to_kubernetes() {
    each_schema(|kind, path, schema| {
        assert!(schema["nullable"].is_null(), "{kind} {path} is nullable");
        if let Some(format) = schema["format"].as_str() {
            assert!(["int32", "int64", "double", "date-time"].contains(&format), "{kind} {path}: {format}");
        }
    });
}

#[test]
fn a_list_of_objects_in_a_spec_is_a_map_so_that_people_can_patch_it() {
    each_schema(|kind, path, schema| {
        // A map's key is a scalar: a list whose entries are known by a reference, an object, cannot be one.
        let by_reference = ["configMap", "to"].iter().any(|key| schema["items"]["properties"][key]["type"] == "object");
        if path.starts_with("spec") && schema["items"]["type"] == "object" && !by_reference {
            assert_eq!(schema["x-kubernetes-list-type"], "map", "{kind} {path}");
        }
    });
}

#[test]
fn kubectl_shows_the_columns_of_the_design() {
    let shown = |wide: bool| -> BTreeMap<String, Vec<String>> {
        let of = |crd: CustomResourceDefinition| {
            let columns = crd.spec.versions[0].additional_printer_columns.clone().unwrap().into_iter();
            let columns = columns.filter(|c| wide == c.priority.is_some_and(|p| p > 0)).map(|c| c.name.to_uppercase());
            (crd.spec.names.kind, columns.collect())
        };
        crds::all().into_iter().map(of).collect()
    };
    let columns = shown(false);
    assert_eq!(columns["Environment"], ["TIER", "RELEASE", "LOCKED BY", "READY", "AGE"]);
    assert_eq!(shown(true)["Environment"], ["RELEASE HASH"], "only with -o wide");
    assert_eq!(columns["Promotion"], ["FROM", "PHASE", "STEP", "APPROVALS", "NEXT", "REASON", "AGE"]);
    assert_eq!(columns["EnvironmentRestore"], ["FROM", "PHASE", "STEP", "APPROVALS", "NEXT", "REASON", "AGE"]);
    assert_eq!(columns["EnvironmentBackup"], ["PHASE", "SIZE", "PROVEN", "REASON", "AGE"]);
}

/// One right in words, so that a difference reads as a line.
fn lines(rights: &[Right]) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for right in rights {
        for resource in right.resources {
            for verb in right.verbs {
                let names = if right.names.is_empty() { String::new() } else { format!(" {:?}", right.names) };
                lines.insert(format!("{verb} {resource}.{}{names}", right.group));
            }
        }
    }
    lines
}

fn lines_of_role(role: &Value) -> BTreeSet<String> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut lines = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let names = texts(&rule["resourceNames"]);
        let names = if names.is_empty() { String::new() } else { format!(" {names:?}") };
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    lines.insert(format!("{verb} {resource}.{group}{names}"));
                }
            }
        }
    }
    lines
}

#[test]
fn the_operator_has_exactly_the_rights_that_are_written_down() {
    let rendered = documents(&read("deploy/rbac.yaml"));
    for (kind, name, rights) in [
        ("ClusterRole", "lockkeeper", rights::OPERATOR),
        ("ClusterRole", rights::ENVIRONMENT_ROLE, rights::ENVIRONMENT),
        ("ClusterRole", rights::DELIVERY_ROLE, rights::DELIVERY),
        ("Role", "lockkeeper-lease", rights::LEASE),
    ] {
        assert_eq!(lines_of_role(named(&rendered, kind, name)), lines(rights), "{kind} {name}");
    }
    assert_eq!(names(&rendered, "ClusterRole").len() + names(&rendered, "Role").len(), 4, "a role that nobody looked at");
    // Bound cluster-wide: its own role and nothing else.
    assert_eq!(names(&rendered, "ClusterRoleBinding"), BTreeSet::from(["lockkeeper".to_owned()]));
    assert_eq!(named(&rendered, "ClusterRoleBinding", "lockkeeper")["roleRef"]["name"], "lockkeeper");
}

#[test]
fn no_role_reaches_secrets_holds_a_wildcard_or_can_gain_more() {
    let mut roles = 0;
    for file in ["deploy/rbac.yaml", "deploy/people.yaml"] {
        for document in documents(&read(file)) {
            if !["Role", "ClusterRole"].contains(&document["kind"].as_str().unwrap()) {
                continue;
            }
            roles += 1;
            let name = document["metadata"]["name"].clone();
            assert!(document["aggregationRule"].is_null(), "{name} grows by others' labels");
            for line in lines_of_role(&document) {
                for forbidden in [
                    "secrets",
                    "*",
                    "escalate ",
                    "bind ",
                    "impersonate ",
                    "pods/exec",
                    "pods/attach",
                    "pods/ephemeralcontainers",
                    "serviceaccounts/token",
                    "clusterroles",
                    "rolebindings",
                ] {
                    assert!(!line.contains(forbidden), "{name}: {line}");
                }
            }
        }
    }
    assert!(roles >= 8, "only {roles} roles were looked at");
}

#[test]
fn people_are_given_no_status_and_each_verb_by_a_role() {
    let people = documents(&read("deploy/people.yaml"));
    let all: BTreeSet<String> = people.iter().flat_map(lines_of_role).collect();
    assert!(!all.iter().any(|line| line.contains("/status")), "{all:?}");
    use lockkeeper::api::verbs;
    for (role, verbs) in [
        ("lockkeeper-promoter", vec![verbs::PROMOTE]),
        ("lockkeeper-requester", vec![verbs::MODIFY]),
        ("lockkeeper-approver", vec![verbs::APPROVE, verbs::CANCEL]),
        ("lockkeeper-owner", vec![verbs::BACKUP, verbs::CANCEL, verbs::RESTORE]),
    ] {
        let lines = lines_of_role(named(&people, "ClusterRole", role));
        for verb in [verbs::PROMOTE, verbs::MODIFY, verbs::APPROVE, verbs::CANCEL, verbs::BACKUP, verbs::RESTORE] {
            let given = lines.contains(&format!("{verb} environments.lockkeeper.dev"));
            assert_eq!(given, verbs.contains(&verb), "{role}: {verb}");
        }
    }
}

#[test]
fn network_policies_select_the_pods_that_they_mean() {
    use lockkeeper::{
        api::labels,
        manifest::{page, task::Verb},
    };
    let chart = support::rendered("charts/lockkeeper-environment", "shop", "shop-production", &[]);
    let rendered = documents(&chart);
    let all = names(&rendered, "NetworkPolicy");
    assert_eq!(all, ["lockkeeper-data", "lockkeeper-http", "lockkeeper-page"].map(str::to_owned).into());
    let spec = |name: &str| &named(&rendered, "NetworkPolicy", name)["spec"];
    assert_eq!(spec("lockkeeper-page")["podSelector"]["matchLabels"][labels::AGENT], Verb::Page.as_str());
    assert_eq!(spec("lockkeeper-page")["ingress"][0]["ports"][0]["port"], page::PORT);
    assert_eq!(spec("lockkeeper-http")["podSelector"]["matchLabels"][labels::AGENT], Verb::Http.as_str());
    let others = &spec("lockkeeper-data")["podSelector"]["matchExpressions"];
    assert_eq!(others[0]["key"], labels::AGENT);
    assert_eq!(others[1]["values"], serde_json::json!([Verb::Page.as_str(), Verb::Http.as_str()]));
    for policy in all {
        assert_eq!(spec(&policy)["policyTypes"], serde_json::json!(["Ingress", "Egress"]), "{policy} holds both ways");
    }
    let without = support::rendered("charts/lockkeeper-environment", "shop", "p", &["--set", "networkPolicy.enabled=false"]);
    assert!(names(&documents(&without), "NetworkPolicy").is_empty());
}

#[test]
fn pods_on_data_reach_s3_where_an_environment_names_it_and_nowhere_else() {
    let ports = |more: &[&str]| {
        let rendered = documents(&support::rendered("charts/lockkeeper-environment", "shop", "p", more));
        let all = named(&rendered, "NetworkPolicy", "lockkeeper-data")["spec"]["egress"][0]["ports"].clone();
        all.as_array().unwrap().iter().skip(2).map(|p| p["port"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ports(&[]), [5432]);
    assert_eq!(ports(&["--set", "networkPolicy.s3Ports={443,9000}"]), [5432, 443, 9000]);
    let spec = |backups: &str, exchange: &str| {
        let place = |endpoint: &str| format!(r#"{{"repository": {{"s3": {{"endpoint": "{endpoint}"}}}}}}"#);
        format!(r#"environment={{"name": "e", "spec": {{"backups": {}, "exchange": {}}}}}"#, place(backups), place(exchange))
    };
    assert_eq!(ports(&["--set-json", &spec("https://s3.example.org", "http://s3.example.org:7070/")]), [5432, 443, 7070]);
    assert_eq!(ports(&["--set-json", &spec("http://s3.example.org", "http://[::1]/")]), [5432, 80]);
    let volume = r#"environment={"name": "e", "spec": {"backups": {"repository": {"volume": {"claim": {"name": "b"}}}}}}"#;
    assert_eq!(ports(&["--set-json", volume]), [5432]);
}

#[test]
fn the_policies_are_those_that_the_operator_looks_for() {
    let mut rendered = documents(&read("deploy/policies.yaml"));
    rendered.extend(documents(&read("deploy/bounds.yaml")));
    let expected: BTreeSet<String> = policies::NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names(&rendered, "ValidatingAdmissionPolicy"), expected);
    assert_eq!(names(&rendered, "ValidatingAdmissionPolicyBinding"), expected);
    for name in policies::NAMES {
        let policy = named(&rendered, "ValidatingAdmissionPolicy", name);
        assert_eq!(policy["spec"]["failurePolicy"], policies::FAILURE_POLICY, "{name}");
        let binding = named(&rendered, "ValidatingAdmissionPolicyBinding", name);
        assert_eq!(binding["spec"]["policyName"], *name);
        assert_eq!(binding["spec"]["validationActions"], serde_json::json!([policies::VALIDATION_ACTION]), "{name}");
        assert!(binding["spec"]["matchResources"].is_null(), "{name} does not hold everywhere");
        for object in [policy, binding] {
            assert_eq!(object["metadata"]["labels"][policies::VERSION_LABEL], policies::VERSION, "{name}");
        }
        for validation in policy["spec"]["validations"].as_array().unwrap() {
            assert_eq!(validation["reason"], "Forbidden", "{name}: a refusal is a 403");
            assert!(
                validation["message"].as_str().is_some_and(|message| message.len() > 30),
                "{name}: a refusal says what to do"
            );
        }
    }
}

#[test]
fn the_operators_pod_keeps_to_the_restricted_standard() {
    let rendered = documents(&read("deploy/operator.yaml"));
    let pod = &named(&rendered, "Deployment", "lockkeeper")["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"], serde_json::json!(["ALL"]));
    let image = container["env"].as_array().unwrap().iter().find(|variable| variable["name"] == "LOCKKEEPER_IMAGE").unwrap();
    assert_eq!(image["value"], container["image"], "the Jobs run the operator's own image");
}
