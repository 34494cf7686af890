//! The users, who know nothing of the operator: a writer that sends numbered writes through the application's Service and
//! keeps what was acknowledged, and a poller that asks ten times a second over new connections.

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use lockkeeper::api::Timestamp;
use serde::Deserialize;

use super::{
    cluster::{cluster, run},
    world::World,
};

/// So far from the first writer's numbers are those of the second.
const RUSH: i64 = 5_000_000;

/// What a writer says at its end.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Writes that were sent.
    pub sent: i64,
    /// Other writes that were under way at the first refusal.
    pub in_flight_at_first_refusal: i64,
    /// When that was. None: nobody was ever refused.
    pub first_refusal: Option<Timestamp>,
}

/// One answer to the poller.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// When it was asked for.
    pub time: Timestamp,
    /// How long it took.
    pub ms: i64,
    /// Its status; 0 where there was none.
    pub status: u16,
    /// The header Retry-After.
    #[serde(default)]
    pub retry_after: String,
    /// The header Content-Type.
    #[serde(default)]
    pub content_type: String,
    /// The release of the application that answered; the page has none.
    #[serde(default)]
    pub release: String,
    /// Why there was no answer.
    #[serde(default)]
    pub error: String,
}

impl Answer {
    fn ended(&self) -> Timestamp {
        self.time + jiff::SignedDuration::from_millis(self.ms)
    }

    fn is_page(&self) -> bool {
        self.status == 503 && !self.retry_after.is_empty() && self.release.is_empty() && self.error.is_empty()
    }

    fn is_application(&self) -> bool {
        self.status == 200 && !self.release.is_empty() && self.error.is_empty()
    }
}

/// When users were locked out, by the run's own account. The poller's file must agree.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// The lock is taken: no earlier may anyone see the page.
    pub locked: Timestamp,
    /// The old pods are gone: from here all see the page.
    pub closed: Timestamp,
    /// Services begin to lead back: until here all see the page.
    pub opens: Timestamp,
    /// Services lead back: soon after this nobody sees the page.
    pub opened: Timestamp,
}

/// How long the node takes to follow a Service's endpoints, and a bit.
const SETTLE: jiff::SignedDuration = jiff::SignedDuration::from_secs(3);

/// What the poller saw that no user should have. `None`: there was no outage.
pub fn faults(answers: &[Answer], outage: Option<Outage>) -> Vec<String> {
    let mut faults = Vec::new();
    for answer in answers {
        if !answer.is_page() && !answer.is_application() {
            faults.push(format!("neither the application nor the page with Retry-After: {answer:?}"));
            continue;
        }
        let Some(outage) = outage else {
            if !answer.is_application() {
                faults.push(format!("the page, though nobody was to be locked out: {answer:?}"));
            }
            continue;
        };
        if answer.is_page() && answer.ended() < outage.locked {
            faults.push(format!("the page before the lock at {}: {answer:?}", outage.locked));
        }
        if answer.is_application() && answer.time > outage.closed && answer.ended() < outage.opens {
            faults.push(format!("the application between {} and {}: {answer:?}", outage.closed, outage.opens));
        }
        if answer.is_page() && answer.time > outage.opened + SETTLE {
            faults.push(format!("the page after {}: {answer:?}", outage.opened));
        }
    }
    if outage.is_some() && !answers.iter().any(Answer::is_page) {
        faults.push("nobody ever saw the page".into());
    }
    faults
}

/// The users of a Production, at work.
pub struct Users {
    url: String,
    acks: PathBuf,
    answers: PathBuf,
    writers: Vec<Writer>,
    poller: Child,
}

struct Writer {
    from: i64,
    process: Child,
}

/// What the users have to say.
pub struct Testimony {
    /// What the poller was answered.
    pub answers: Vec<Answer>,
    /// What the writers sent: ranges of numbers, first and count.
    pub sent: Vec<(i64, i64)>,
    /// What was acknowledged.
    pub acknowledged: BTreeSet<i64>,
    /// What each writer says.
    pub tallies: Vec<Tally>,
    url: String,
    acks: PathBuf,
}

impl Users {
    /// They begin. `accept` is what the poller wants: a program or a person.
    pub fn of(world: &World, run: &str, accept: &str, numbers_from: i64) -> Self {
        let url = format!("http://{}", world.address());
        let (acks, answers) = (world.directory().join(format!("{run}.acks")), world.directory().join(format!("{run}.poll")));
        let poller = Command::new(&cluster().tiny)
            .args(["poll", "--url", &format!("{url}/health"), "--accept", accept, "--out"])
            .arg(&answers)
            .spawn()
            .expect("the poller starts");
        let mut users = Self { url, acks, answers, writers: Vec::new(), poller };
        users.writer(numbers_from, &["--rate", "100", "--conns", "4"]);
        users
    }

    fn writer(&mut self, from: i64, more: &[&str]) {
        let process = Command::new(&cluster().tiny)
            .args(["writer", "--until-refused", "--url", &self.url, "--from", &from.to_string(), "--out"])
            .arg(&self.acks)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a writer starts");
        self.writers.push(Writer { from, process });
    }

    /// A rush: writes without a pause between them, so that some are under way whenever the door closes.
    pub fn rush(&mut self) {
        let from = self.writers[0].from + RUSH;
        self.writer(from, &["--rate", "0", "--conns", "4"]);
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        fs::read_to_string(&self.acks).map(|text| text.lines().count()).unwrap_or(0)
    }

    /// They stop, and are heard.
    pub fn heard(mut self) -> Testimony {
        stop(&self.poller);
        self.poller.wait().expect("the poller ends");
        let mut tallies = Vec::new();
        let mut sent = Vec::new();
        for writer in &mut self.writers {
            stop(&writer.process);
            let mut said = String::new();
            writer.process.stdout.take().expect("a pipe").read_to_string(&mut said).expect("a writer speaks");
            writer.process.wait().expect("a writer ends");
            let tally: Tally = serde_json::from_str(&said).expect("a tally");
            sent.push((writer.from, tally.sent));
            tallies.push(tally);
        }
        let lines = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
        let answers = lines(&self.answers).lines().map(|line| serde_json::from_str(line).expect("an answer")).collect();
        let acknowledged = lines(&self.acks).lines().map(|line| line.parse().expect("a number")).collect();
        Testimony { answers, sent, acknowledged, tallies, url: self.url.clone(), acks: self.acks.clone() }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        for process in self.writers.iter_mut().map(|w| &mut w.process).chain([&mut self.poller]) {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Asks a process to end.
pub fn stop(process: &Child) {
    let pid = i32::try_from(process.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    // A writer that was refused has ended already; until it is waited for, its number is nobody else's.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
}

impl Testimony {
    /// Of what is there now: every acknowledged write, and nothing that was neither there before nor sent. The application
    /// itself must say so too.
    pub fn assert_nothing_lost(&self, before: &BTreeSet<i64>, there: &BTreeSet<i64>) {
        let known: BTreeSet<i64> = before.union(&self.acknowledged).copied().collect();
        let lost: Vec<_> = known.difference(there).collect();
        assert!(lost.is_empty(), "{} acknowledged writes are lost: {:?}", lost.len(), &lost[..lost.len().min(20)]);
        let sent = |n: &&i64| self.sent.iter().any(|(from, count)| (*from..from + count).contains(*n));
        let strange: Vec<_> = there.iter().filter(|n| !before.contains(n) && !sent(n)).take(20).collect();
        assert!(strange.is_empty(), "nobody ever sent these: {strange:?}");
        let said = run(Command::new(&cluster().tiny).args(["missing", "--url", &self.url, "--acks"]).arg(&self.acks), "");
        said.expect("the application itself finds every acknowledged write");
    }

    /// There were enough writes, and some under way when the door closed.
    pub fn assert_busy_at_the_lock(&self) {
        assert!(self.acknowledged.len() >= 1000, "only {} writes were acknowledged: that shows little", self.acknowledged.len());
        let in_flight = self.tallies.iter().map(|t| t.in_flight_at_first_refusal).max().unwrap_or(0);
        assert!(in_flight > 0, "no write was under way at the lock: {:?}", self.tallies);
        assert!(self.tallies.iter().all(|t| t.first_refusal.is_some()), "a writer was never refused: {:?}", self.tallies);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn answer(second: i64, status: u16, retry_after: &str, release: &str) -> Answer {
        Answer {
            time: at(second),
            ms: 10,
            status,
            retry_after: retry_after.into(),
            content_type: String::new(),
            release: release.into(),
            error: if status == 0 { "connection refused".into() } else { String::new() },
        }
    }

    const OUTAGE: fn() -> Outage = || Outage { locked: at(10), closed: at(15), opens: at(30), opened: at(31) };

    #[test]
    fn an_orderly_outage_has_no_faults() {
        let seen = [
            answer(1, 200, "", "1"),
            answer(12, 503, "30", ""),
            answer(20, 503, "30", ""),
            answer(32, 503, "30", ""),
            answer(40, 200, "", "2"),
        ];
        assert_eq!(faults(&seen, Some(OUTAGE())), Vec::<String>::new());
    }

    #[test]
    fn whatever_no_user_should_see_is_a_fault() {
        let page = answer(20, 503, "30", "");
        for (bad, words) in [
            (answer(20, 502, "", ""), "neither"),
            (answer(1, 500, "", "1"), "neither"),
            (answer(20, 503, "", ""), "neither"),
            (answer(20, 0, "", ""), "neither"),
            (answer(20, 200, "", ""), "neither"),
            (answer(20, 503, "30", "1"), "neither"),
            (answer(20, 200, "", "1"), "the application between"),
            (answer(5, 503, "30", ""), "before the lock"),
            (answer(40, 503, "30", ""), "the page after"),
        ] {
            let found = faults(&[page.clone(), bad], Some(OUTAGE()));
            assert!(found.len() == 1 && found[0].contains(words), "{found:?}");
        }
        assert!(faults(&[answer(1, 200, "", "1")], Some(OUTAGE()))[0].contains("nobody ever saw"));
        assert!(faults(&[page], None)[0].contains("nobody was to be locked out"));
    }
}
