//! `show`: a promotion from head to foot, whatever its phase.

use jiff::{Timestamp, tz::TimeZone};

use super::{
    args::{Global, ShowArgs},
    error::{CliError, Exit},
    session::Session,
    show::{self, section},
    text::clean,
    view,
};
use crate::api::Promotion;

/// Runs the subcommand. The code is that of the command, not of the run: `watch` and `-o json` tell scripts of that.
pub async fn run(global: &Global, args: ShowArgs) -> Result<Exit, CliError> {
    let session = Session::open(global).await?;
    let promotion: Promotion = session.get(&args.name).await?;
    session.printer.say(rendered(&promotion, Timestamp::now(), &TimeZone::system()));
    session.printer.object(&promotion)?;
    Ok(Exit::Done)
}

fn rendered(promotion: &Promotion, now: Timestamp, zone: &TimeZone) -> String {
    let status = promotion.status.clone().unwrap_or_default();
    let mut parts = vec![show::head(promotion, now, zone)];
    if let Some(by) = &promotion.spec.modified_by {
        parts.push(section("Changed", &format!("{}: {}", clean(&by.username), clean(&by.reason))));
    }
    parts.push(show::decided(promotion));
    if !status.phase.is_before_start() {
        parts.push(section("Steps", &view::steps(&status, now)));
    }
    if let Some(why) = show::waiting_for(&status).filter(|_| !status.phase.is_terminal()) {
        parts.push(section("Next", &why));
    }
    if let Some(by) = &status.intervention {
        let left: String = by.left.iter().map(|l| format!("\n- {}", clean(l))).collect();
        parts.push(section("Intervention", &format!("{:?} by {}: {}{left}", by.action, clean(&by.username), clean(&by.reason))));
    }
    if status.phase.is_terminal() {
        parts.push(section("End", &view::summary(promotion, zone)));
    }
    parts.join("\n")
}
