//! A Promotion in words: what it brings, what was checked, what is done in which order, who must say yes. Pure.

use jiff::{Timestamp, tz::TimeZone};

use super::text::{between, clean, clean_lines, indent, instant, shorten, table};
use crate::{
    api::{
        Check, Environment, Phase, Promotion, PromotionSpec, PromotionStatus, Release,
        promotion::{Change, Schedule, StepState},
    },
    plan::world::Run,
};

/// A changelog as a table, digests cut.
pub fn changelog(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing changes: source and target run the same".into();
    }
    let rows: Vec<Vec<String>> = changes
        .iter()
        .map(|c| {
            let from = c.from.as_deref().map_or_else(|| "-".into(), shorten);
            let to = c.to.as_deref().map_or_else(|| "removed".into(), shorten);
            vec![c.module.clone(), format!("{:?}", c.kind), c.name.clone(), from, format!("→ {to}")]
        })
        .collect();
    table(&["MODULE", "KIND", "NAME", "FROM", "  TO"], &rows)
}

/// A release in full: every digest, every hash.
pub fn release(release: &Release) -> String {
    let mut rows = Vec::new();
    for module in &release.modules {
        for workload in &module.workloads {
            for container in &workload.containers {
                let thing = format!("{} {}, container {}", workload.kind, workload.name, container.name);
                let image = if container.image.contains('@') {
                    container.image.clone()
                } else {
                    format!("{}@{}", container.image, container.digest)
                };
                rows.push(vec![module.name.clone(), thing, image]);
            }
        }
        for configuration in &module.configuration {
            rows.push(vec![module.name.clone(), format!("ConfigMap {}", configuration.config_map), configuration.hash.clone()]);
        }
    }
    table(&["", "", ""], &rows)
}

/// The steps of a plan, numbered in their order.
pub fn plan(status: &PromotionStatus) -> String {
    let rows: Vec<Vec<String>> = status
        .steps
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let state = if s.state == StepState::Pending { String::new() } else { format!("{:?}", s.state) };
            vec![format!("{:>2}.", i + 1), s.name.clone(), state, s.message.clone().unwrap_or_default()]
        })
        .collect();
    table(&["", "", "", ""], &rows)
}

/// What was checked: how much passed, and each thing that did not, with what to do.
pub fn preflight(checks: &[Check]) -> String {
    let passed = checks.iter().filter(|c| c.passed).count();
    let mut lines = vec![format!("{passed} of {} checks passed", checks.len())];
    for check in checks.iter().filter(|c| !c.passed) {
        lines.push(format!("✘ {}: {}", clean(&check.name), indent(&clean_lines(&check.message), 4).trim_start()));
    }
    lines.join("\n")
}

/// Who said yes, whose yes does not count and why.
pub fn approvals(status: &PromotionStatus) -> String {
    let Some(approvals) = &status.approvals else { return "not counted yet".into() };
    let given = if approvals.given.is_empty() { "none".into() } else { approvals.given.join(", ") };
    let mut lines = vec![format!("{} of {} needed: {}", approvals.given.len(), approvals.required, clean(&given))];
    lines.extend(approvals.void.iter().map(|v| format!("✘ {} does not count: {}", clean(&v.username), clean(&v.reason))));
    lines.join("\n")
}

/// When a run may start.
pub fn schedule(schedule: Option<&Schedule>, zone: &TimeZone) -> String {
    let Some(schedule) = schedule else { return "as soon as it is approved".into() };
    let deadline = schedule.start_deadline.as_ref();
    match (schedule.not_before, deadline) {
        (Some(at), Some(deadline)) => format!("{} ({at}), or up to {deadline} later", instant(at, zone)),
        (Some(at), None) => format!("{} ({at}), or up to 24h later", instant(at, zone)),
        (None, Some(deadline)) => format!("as soon as it is approved, within {deadline}"),
        (None, None) => "as soon as it is approved".into(),
    }
}

/// The head of a Promotion: what, by whom, from where to where, when.
pub fn head(promotion: &Promotion, now: Timestamp, zone: &TimeZone) -> String {
    let spec = &promotion.spec;
    let meta = &promotion.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let status = promotion.status.as_ref();
    let age = meta.creation_timestamp.as_ref().map(|t| format!(", {} ago", between(t.0, now))).unwrap_or_default();
    let mut rows = vec![
        ("Promotion", format!("{} in namespace {namespace}", meta.name.as_deref().unwrap_or_default())),
        ("Phase", status.map(|s| s.phase).unwrap_or_default().to_string()),
        ("Asked by", format!("{}{age}", spec.requested_by.username)),
    ];
    if let Some(text) = &spec.description {
        rows.push(("What", text.to_string()));
    }
    rows.extend(route(spec, namespace, zone));
    pairs(&rows)
}

/// From where to where, which modules, when: what a spec says.
pub fn route(spec: &PromotionSpec, namespace: &str, zone: &TimeZone) -> Vec<(&'static str, String)> {
    let modules = match &spec.modules {
        Some(names) => names.iter().map(|m| m.to_string()).collect::<Vec<_>>().join(", "),
        None => "all that the source has".into(),
    };
    vec![
        ("From", format!("{}/{}", spec.from.namespace, spec.from.name)),
        ("To", format!("{namespace}/{}", spec.environment.name)),
        ("Modules", modules),
        ("Starts", schedule(spec.schedule.as_ref(), zone)),
    ]
}

/// Names and values, one a line, values aligned.
pub fn pairs(rows: &[(&str, String)]) -> String {
    table(&["", ""], &rows.iter().map(|(k, v)| vec![(*k).to_owned(), v.clone()]).collect::<Vec<_>>())
}

/// What users will notice, and what is run on the target, from the target's Environment.
pub fn outage(target: &Environment, modules: &[&str]) -> String {
    let spec = &target.spec;
    let mut lines = Vec::new();
    let workloads: Vec<String> = spec
        .modules
        .iter()
        .flat_map(|m| &m.workloads)
        .filter(|w| !spec.maintenance.exclude.contains(w))
        .map(ToString::to_string)
        .collect();
    if let Some(from) = spec.align_before_promotion.as_ref().and_then(|a| a.from.as_ref()) {
        lines.push(format!("becomes a mirror of {}/{} first, every value masked", from.namespace, from.name));
    }
    lines.push(format!("goes down while locked: {}", workloads.join(", ")));
    match &spec.maintenance.services.names {
        Some(names) => lines.push(format!(
            "answer 503 while locked: Services {}",
            names.iter().map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
        )),
        None => lines.push("answer 503 while locked: all Services of these workloads".into()),
    }
    if !spec.data.is_empty() {
        let names: Vec<String> = spec.data.iter().map(|d| d.name.to_string()).collect();
        lines.push(format!("backed up before, closed while locked, put back on failure: {}", names.join(", ")));
    }
    for module in spec.modules.iter().filter(|m| modules.contains(&&*m.name)) {
        if let Some(migration) = &module.migration {
            let command: Vec<String> = migration.command.iter().map(|a| super::session::quote(a)).collect();
            let role = migration.connection_secret.as_ref().map(|s| format!(", with the connection of Secret {}", s.name));
            lines.push(format!(
                "migration of {}: {} (at most {}){}",
                module.name,
                command.join(" "),
                migration.timeout,
                role.unwrap_or_default()
            ));
        }
    }
    let checks: Vec<String> = spec.verification.iter().map(|v| v.name.to_string()).collect();
    if checks.is_empty() {
        lines.push("verification: none; it counts as good once the workloads are up".into());
    } else {
        lines.push(format!("verification: {}", checks.join(", ")));
    }
    clean_lines(&lines.join("\n"))
}

/// A titled part: the title at the margin, the text below it indented.
pub fn section(title: &str, text: &str) -> String {
    format!("\n{title}\n{}", indent(text, 2))
}

/// What the operator made of a run: all parts that a person decides on.
pub fn decided(status: Option<&PromotionStatus>) -> String {
    let Some(status) = status else { return "the operator has not looked at it yet".into() };
    let mut parts = Vec::new();
    if let Some(captured) = &status.release {
        parts.push(section(&format!("Release {}", clean(&captured.hash)), &release(captured)));
    }
    parts.push(section("Changelog", &changelog(&status.changelog)));
    if !status.steps.is_empty() {
        parts.push(section("Plan", &plan(status)));
    }
    let checked = if status.preflight.is_empty() && status.preflight_at.is_none() {
        "the checks have not run yet".into()
    } else {
        preflight(&status.preflight)
    };
    parts.push(section("Preflight", &checked));
    parts.push(section("Approvals", &approvals(status)));
    if let Some(hash) = &status.plan_hash {
        parts.push(section("Plan hash", &clean(hash)));
    }
    parts.join("\n")
}

/// Why nothing goes on, where a condition says so; otherwise what comes next.
pub fn waiting_for(status: &PromotionStatus) -> Option<String> {
    let stalled = status.conditions.iter().find(|c| c.type_ == "Stalled" && c.status == "True");
    match stalled {
        Some(condition) => Some(format!("{}: {}", condition.reason, clean_lines(&condition.message))),
        None => status.next.as_deref().map(clean),
    }
}

/// How a run that has ended, or needs a person, is summed up in one sentence.
pub fn ending(run: Run<'_>, phase: Phase) -> &'static str {
    match phase {
        Phase::Completed => match run {
            Run::Promotion(_) => "the release is in, users are back",
            Run::Restore(_) => "the data is back, and so are users",
            Run::Alignment(_) => "the environment is a mirror, users are back",
        },
        Phase::RolledBack => "the environment is what it was before",
        Phase::Failed => "nothing in the environment has changed",
        Phase::Cancelled => "ended by a person; nothing in the environment has changed",
        Phase::Expired => "its time passed; nothing in the environment has changed",
        Phase::NeedsHuman => {
            "the rollback failed: users see the page and the lock is held until the cause is mended; it is tried again by itself"
        }
        Phase::Abandoned => "a person gave the rollback up; what is listed must be put right by hand",
        _ => "it goes on",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::promotion::{ApprovalsStatus, VoidApproval};
    use crate::cli::changes::{self, tests::release as sample};

    fn promotion() -> Promotion {
        let new = sample("7.4.1", 'b', "sha256:2");
        let old = sample("6.3.0", 'a', "sha256:1");
        let spec = serde_json::from_value(serde_json::json!({
            "tier": "Production",
            "modules": [{"name": "flags", "workloads": [{"kind": "Deployment", "name": "unleash"}]}],
        }))
        .unwrap();
        let changelog = changes::preview(&["flags"], Some(&new), Some(&old), &spec).changes;
        let mut promotion: Promotion = serde_json::from_value(serde_json::json!({
            "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion",
            "metadata": {"name": "flags-7-4", "namespace": "shop-production", "creationTimestamp": "2026-11-25T19:57:00Z"},
            "spec": {
                "environment": {"name": "production"},
                "from": {"namespace": "shop-staging", "name": "staging"},
                "schedule": {"notBefore": "2026-11-25T21:00:00+01:00", "startDeadline": "2h"},
                "requestedBy": {"username": "alice"}, "description": "Flags 7.4",
            },
        }))
        .unwrap();
        promotion.status = Some(PromotionStatus {
            release: Some(new),
            changelog,
            plan_hash: Some(format!("v1:{}", "c".repeat(64))),
            steps: vec![
                serde_json::from_value(serde_json::json!({"name": "backup"})).unwrap(),
                serde_json::from_value(serde_json::json!({"name": "migration/flags"})).unwrap(),
            ],
            preflight: vec![
                Check { name: "rights".into(), passed: true, message: "all there".into() },
                Check {
                    name: "roles/flags-db".into(),
                    passed: false,
                    message: "no CREATEDB; run:\nALTER ROLE app CREATEDB;".into(),
                },
            ],
            preflight_at: Some("2026-11-25T19:58:00Z".parse().unwrap()),
            approvals: Some(ApprovalsStatus {
                required: 2,
                given: vec!["bob".into()],
                void: vec![VoidApproval { username: "eve".into(), reason: "approved another plan".into() }],
                summary: "1/2".into(),
            }),
            ..PromotionStatus::default()
        });
        promotion
    }

    #[test]
    fn a_promotion_is_shown_with_all_that_an_approval_covers() {
        let now = "2026-11-25T20:00:00Z".parse().unwrap();
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        let promotion = promotion();
        insta::assert_snapshot!(format!("{}\n{}", head(&promotion, now, &zone), decided(promotion.status.as_ref())), @r"
        Promotion  flags-7-4 in namespace shop-production
        Phase      Scheduled
        Asked by   alice, 3m00s ago
        What       Flags 7.4
        From       shop-staging/staging
        To         shop-production/production
        Modules    all that the source has
        Starts     Wed 2026-11-25 21:00:00 CET (2026-11-25T20:00:00Z), or up to 2h later

        Release sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
          flags  Deployment unleash, container unleash  registry:5000/unleash:7.4.1@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
          flags  ConfigMap unleash-config               sha256:2

        Changelog
          MODULE  KIND           NAME                                   FROM                                                TO
          flags   Image          Deployment unleash, container unleash  registry:5000/unleash:6.3.0@sha256:aaaaaaaaaaaa…  → registry:5000/unleash:7.4.1@sha256:bbbbbbbbbbbb…
          flags   Configuration  ConfigMap unleash-config               sha256:1                                          → sha256:2

        Plan
           1.  backup
           2.  migration/flags

        Preflight
          1 of 2 checks passed
          ✘ roles/flags-db: no CREATEDB; run:
              ALTER ROLE app CREATEDB;

        Approvals
          1 of 2 needed: bob
          ✘ eve does not count: approved another plan

        Plan hash
          v1:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc
        ");
    }

    #[test]
    fn an_empty_changelog_says_so() {
        assert!(changelog(&[]).starts_with("nothing changes"));
    }

    #[test]
    fn a_schedule_is_said_in_the_local_zone_and_in_full() {
        let zone = TimeZone::get("Europe/Madrid").unwrap();
        assert_eq!(schedule(None, &zone), "as soon as it is approved");
        let only = Schedule { not_before: Some("2026-11-25T20:00:00Z".parse().unwrap()), start_deadline: None };
        assert_eq!(schedule(Some(&only), &zone), "Wed 2026-11-25 21:00:00 CET (2026-11-25T20:00:00Z), or up to 24h later");
    }
}
