//! Completion for `kubectl lockkeeper`. kubectl asks a program called `kubectl_complete-lockkeeper` for the words that may come
//! next, and reads them as its own completion gives them: one a line, then a line with a directive. A link of that name to this
//! program is enough.

use clap::{Command, CommandFactory};
use kube::{
    ResourceExt,
    api::{Api, ListParams},
};

use super::{
    args::{Cli, Global},
    session::Session,
};
use crate::api::Promotion;

/// Under which name kubectl asks.
pub const NAME: &str = "kubectl_complete-lockkeeper";

/// kubectl's directive: no names of files.
const NO_FILES: &str = ":4";

/// Subcommands whose first word is the name of a Promotion.
const TAKES_A_PROMOTION: [&str; 8] = ["approve", "validate", "cancel", "watch", "modify", "resume", "unlock", "show"];

/// Prints what may come next. Whatever goes wrong, there is just nothing to offer.
pub async fn run(words: &[String]) {
    let (last, before) = words.split_last().map_or(("", &[][..]), |(l, b)| (l.as_str(), b));
    let mut offers = offers(&Cli::command(), before, last);
    if wants_promotion(before, last) {
        offers.extend(promotions(before).await);
    }
    offers.retain(|o| o.starts_with(last));
    for offer in offers {
        println!("{offer}");
    }
    println!("{NO_FILES}");
}

/// The words that stand by themselves: neither flags nor their values.
fn plain<'a>(command: &Command, words: &'a [String]) -> Vec<&'a str> {
    let takes_value = |flag: &str| {
        let all = command.get_arguments().chain(command.get_subcommands().flat_map(|s| s.get_arguments()));
        let named = |a: &clap::Arg| {
            a.get_long().is_some_and(|l| flag == format!("--{l}")) || a.get_short().is_some_and(|s| flag == format!("-{s}"))
        };
        all.filter(|a| named(a)).any(|a| a.get_action().takes_values())
    };
    let mut out = Vec::new();
    let mut value = false;
    for word in words {
        if std::mem::take(&mut value) {
            continue;
        }
        if word.starts_with('-') {
            value = takes_value(word);
        } else {
            out.push(word.as_str());
        }
    }
    out
}

fn offers(command: &Command, before: &[String], last: &str) -> Vec<String> {
    let words = plain(command, before);
    let subcommand = words.first().and_then(|w| command.find_subcommand(w));
    if last.starts_with('-') {
        let all = command.get_arguments().chain(subcommand.into_iter().flat_map(|s| s.get_arguments()));
        return all.filter(|a| !a.is_hide_set()).filter_map(|a| Some(format!("--{}", a.get_long()?))).collect();
    }
    if words.is_empty() {
        return command.get_subcommands().filter(|s| !s.is_hide_set()).map(|s| s.get_name().to_owned()).collect();
    }
    let positional = subcommand.and_then(|s| s.get_positionals().nth(words.len() - 1));
    positional.map(|p| p.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect()).unwrap_or_default()
}

fn wants_promotion(before: &[String], last: &str) -> bool {
    let words = plain(&Cli::command(), before);
    !last.starts_with('-') && words.len() == 1 && TAKES_A_PROMOTION.contains(&words[0])
}

/// Names of the Promotions that the flags so far lead to.
async fn promotions(before: &[String]) -> Vec<String> {
    let flag = |names: [&str; 2]| {
        let at = before.iter().position(|w| names.contains(&w.as_str()))?;
        before.get(at + 1).cloned()
    };
    let global = Global {
        namespace: flag(["-n", "--namespace"]),
        context: flag(["--context", "--context"]),
        kubeconfig: flag(["--kubeconfig", "--kubeconfig"]).map(Into::into),
        impersonate: flag(["--as", "--as"]),
        ..Global::default()
    };
    let Ok(session) = Session::open(&global).await else { return Vec::new() };
    let api: Api<Promotion> = session.api();
    match session.ask("listing Promotions", api.list(&ListParams::default())).await {
        Ok(list) => list.items.iter().map(ResourceExt::name_any).collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(words: &str) -> Vec<String> {
        let words: Vec<String> = words.split(' ').map(String::from).collect();
        let (last, before) = words.split_last().unwrap();
        let mut offers = offers(&Cli::command(), before, last);
        offers.retain(|o| o.starts_with(last.as_str()));
        offers
    }

    #[test]
    fn words_are_offered_where_they_may_stand() {
        assert_eq!(offered("un"), ["unlock"]);
        assert!(offered("").contains(&"promote".to_owned()));
        assert_eq!(offered("-n shop mod"), ["modify"], "a flag's value is no subcommand");
        assert_eq!(offered("cancel p --rea"), ["--reason"]);
        assert!(offered("watch --name").contains(&"--namespace".to_owned()));
        assert_eq!(offered("completion z"), ["zsh"]);
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        assert!(wants_promotion(&words("show"), "") && wants_promotion(&words("-n shop unlock"), "f"));
        assert!(!wants_promotion(&words("doctor"), "") && !wants_promotion(&words("show p"), ""));
    }
}
