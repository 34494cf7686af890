//! `watch`: follows a run to its end. On a terminal a screen is drawn anew in place; elsewhere each change is a line.
//!
//! A lost connection is said and repaired; the run does not depend on anyone watching. Ctrl-C ends the watching alone.

use std::{io::IsTerminal, pin::pin, time::Duration};

use futures::{Stream, StreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::{Timestamp, tz::TimeZone};
use kube::runtime::{
    WatchStreamExt,
    utils::Backoff,
    watcher::{self, Event},
};

use super::{
    args::{Format, Global, WatchArgs},
    error::{CliError, Exit, explain},
    found::{Found, Kind},
    progress::Lines,
    session::Session,
    text, view,
};
use crate::{
    api::{DownAlignment, EnvironmentRestore, InterventionAction, Phase, Promotion, PromotionStatus},
    plan::world::Run,
};

/// The server ends a watch after this, and it is begun anew: so a connection that died without a word is noticed.
const WATCH_SECONDS: u32 = 45;

/// Pause between attempts to reach the server again.
const RETRY: Duration = Duration::from_secs(2);

/// How often the screen is drawn anew while nothing changes: durations run on.
const FRAME: Duration = Duration::from_millis(500);

/// Runs the subcommand.
pub async fn run(global: &Global, args: WatchArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    match Found::of(&session, &args.name).await? {
        Found::Promotion(_) => follow::<Promotion>(&session, args).await,
        Found::Restore(_) => follow::<EnvironmentRestore>(&session, args).await,
        Found::Alignment(_) => follow::<DownAlignment>(&session, args).await,
    }
}

/// Follows a run until it ends or needs a person, the time is over, or the user interrupts.
pub async fn follow<K: Kind>(session: &Session, args: WatchArgs) -> Result<Exit, CliError> {
    // Asked once by itself: a missing run, right or server is an error at once, not something to wait for.
    let mut latest: K = session.get(&args.name).await?;
    let uid = latest.meta().uid.clone();
    let mut display = Display::new(session);
    display.show(&latest)?;

    let deadline = args.timeout.as_ref().and_then(|t| t.get()).map(|t| tokio::time::Instant::now() + t);
    let mut changes = pin!(stream::<K>(session, &args.name));
    let mut frames = tokio::time::interval(FRAME);
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        let phase = latest.run().status().map(|s| s.phase).unwrap_or_default();
        if let Some(exit) = ended(latest.run()) {
            display.end(&view::summary(latest.run(), &TimeZone::system()));
            return Ok(exit);
        }
        tokio::select! {
            change = changes.next() => match change {
                Some(Ok(Some(run))) if run.meta().uid == uid => {
                    display.connected();
                    latest = run;
                    display.show(&latest)?;
                }
                Some(Ok(_)) => {
                    display.end("");
                    return Err(CliError::Error(format!("{} {} was deleted while it was {phase}", K::kind(&()), args.name)));
                }
                Some(Err(error)) => display.lost(&error),
                None => return Err(CliError::other("the watch ended by itself")),
            },
            _ = frames.tick() => display.draw(&latest),
            _ = &mut interrupted => {
                display.end(&format!("No longer watching. {} goes on without you ({phase}): {}", args.name, session.command(&format!("watch {}", args.name))));
                return Ok(Exit::Interrupted);
            }
            () = until(deadline) => {
                display.end("");
                return Err(CliError::Error(format!("{} is {phase} and the time to watch is over; it goes on", args.name)));
            }
        }
    }
}

/// How a run has ended. A person's word that the operator has not taken up yet, or by which it gives up, leads on.
pub fn ended(run: Run<'_>) -> Option<Exit> {
    let status = run.status()?;
    let unheard = status.observed_generation < run.metadata().generation;
    let gives_up = status.intervention.as_ref().is_some_and(|i| i.action == InterventionAction::Unlock);
    match status.phase {
        Phase::NeedsHuman if unheard || gives_up => None,
        phase => Exit::of(phase),
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The run as it changes; `None` where it is gone. Errors are reported and repaired.
fn stream<K: Kind>(session: &Session, name: &str) -> impl Stream<Item = Result<Option<K>, String>> + use<K> {
    let config = watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH_SECONDS);
    let mut seen = false;
    watcher::watcher(session.api::<K>(), config).backoff(Steady).filter_map(move |event| {
        let item = match event {
            Ok(Event::Init) => {
                seen = false;
                None
            }
            Ok(Event::InitApply(run) | Event::Apply(run)) => {
                seen = true;
                Some(Ok(Some(run)))
            }
            Ok(Event::InitDone) if !seen => Some(Ok(None)),
            Ok(Event::InitDone) => None,
            Ok(Event::Delete(_)) => Some(Ok(None)),
            Err(error) => Some(Err(reason(error))),
        };
        std::future::ready(item)
    })
}

fn reason(error: watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(e) | watcher::Error::WatchStartFailed(e) | watcher::Error::WatchFailed(e) => {
            explain(&e, "watching", "the API server").to_string()
        }
        watcher::Error::WatchError(status) => text::strip_go_noise(&status),
        watcher::Error::NoResourceVersion => "the API server sent no resourceVersion".into(),
    }
}

/// The same pause each time: one person watching is no load.
struct Steady;

impl Iterator for Steady {
    type Item = Duration;
    fn next(&mut self) -> Option<Duration> {
        Some(RETRY)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

/// Where a run is shown.
struct Display<'a> {
    session: &'a Session,
    screen: Option<ProgressBar>,
    shown: Option<PromotionStatus>,
    lines: Lines,
    lost: Option<(Timestamp, String)>,
    zone: TimeZone,
}

impl<'a> Display<'a> {
    fn new(session: &'a Session) -> Self {
        let live = session.printer.format() == Format::Table
            && std::io::stdout().is_terminal()
            && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let screen = live.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout_with_hz(10));
            // A template of one field cannot be wrong; without it the bar would show a spinner beside the text.
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { session, screen, shown: None, lines: Lines::default(), lost: None, zone: TimeZone::system() }
    }

    /// A new state of the run.
    fn show<K: Kind>(&mut self, run: &K) -> Result<(), CliError> {
        let status = run.run().status().cloned().unwrap_or_default();
        let first = self.shown.is_none();
        let before = self.shown.replace(status.clone()).unwrap_or_default();
        if self.screen.is_some() {
            self.draw(run);
            return Ok(());
        }
        let clock = Timestamp::now().to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string();
        for line in view::news(&before, &status, first, &self.zone).into_iter().chain(self.lines.of_run(&status)) {
            self.session.printer.say(format!("{clock} {line}"));
        }
        if first || before != status {
            self.session.printer.document(run)?;
        }
        Ok(())
    }

    /// Draws the screen as of now, where there is one.
    fn draw<K: Kind>(&self, run: &K) {
        if let Some(bar) = &self.screen {
            let now = Timestamp::now();
            let mut text = view::screen(run.run(), now);
            if let Some((since, why)) = &self.lost {
                text += &format!("\n  no connection for {}: {}", text::between(*since, now), text::clean(why));
            }
            bar.set_message(text);
            bar.tick();
        }
    }

    /// The connection is lost; said once, not at each attempt.
    fn lost(&mut self, why: &str) {
        if self.lost.is_none() {
            self.lost = Some((Timestamp::now(), why.to_owned()));
            if self.screen.is_none() {
                self.session
                    .printer
                    .say(format!("no connection, trying on; the run does not depend on it: {}", text::clean(why)));
            }
        }
    }

    /// The server answers.
    fn connected(&mut self) {
        if let Some((since, _)) = self.lost.take()
            && self.screen.is_none()
        {
            self.session.printer.say(format!("connected again, after {}", text::between(since, Timestamp::now())));
        }
    }

    /// Leaves the last screen where it is and says the last words.
    fn end(&mut self, words: &str) {
        if let Some(bar) = self.screen.take() {
            bar.abandon();
        }
        if !words.is_empty() {
            self.session.printer.say(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_that_needs_a_person_has_ended_until_somebody_says_what_is_to_be_done() {
        let run = |generation: i64, status: serde_json::Value| -> Promotion {
            serde_json::from_value(json!({
                "apiVersion": "lockkeeper.dev/v1alpha1", "kind": "Promotion", "metadata": {"name": "r", "generation": generation},
                "spec": {"environment": {"name": "p"}, "from": {"namespace": "s", "name": "s"}, "requestedBy": {"username": "alice"}},
                "status": status,
            }))
            .unwrap()
        };
        let by = |action: &str| json!({"action": action, "username": "bob", "reason": "x", "generation": 3, "at": "2026-11-23T05:00:00Z"});
        let stuck = json!({"phase": "NeedsHuman", "observedGeneration": 2});
        let resumed = json!({"phase": "NeedsHuman", "observedGeneration": 2, "intervention": by("Resume")});
        let gives_up = json!({"phase": "NeedsHuman", "observedGeneration": 3, "intervention": by("Unlock")});
        let abandoned = json!({"phase": "Abandoned", "observedGeneration": 3, "intervention": by("Unlock")});
        for (generation, status, exit) in [
            (2, &stuck, Some(Exit::NeedsHuman)),
            (3, &stuck, None),
            (2, &resumed, Some(Exit::NeedsHuman)),
            (3, &gives_up, None),
            (3, &abandoned, Some(Exit::EndedOtherwise)),
            (2, &json!({"phase": "Promoting"}), None),
        ] {
            assert_eq!(ended(Run::Promotion(&run(generation, status.clone()))), exit, "{generation} {status}");
        }
    }
}
