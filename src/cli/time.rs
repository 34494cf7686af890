//! Times as people say them: RFC 3339, or a day and an hour in the local zone. Pure: now and the zone are arguments.

use jiff::{
    Timestamp, ToSpan, Zoned,
    civil::{DateTime, Time, Weekday},
    tz::{AmbiguousOffset, TimeZone},
};

const FORMS: &str = "write it as 2026-11-25T21:00:00+01:00, or in the local zone as \"2026-11-25 21:00\", \"Tue 21:00\", \"tomorrow 21:00\" or 21:00";

/// The instant that is meant. `21:00` and `Tue 21:00` are the next such moment from now on.
///
/// # Errors
/// A sentence, where the text is no time, is past, or does not exist or exists twice because clocks are changed.
pub fn parse(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    let text = text.trim();
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) => local(text, &now.to_zoned(zone.clone()), zone)?,
    };
    if at < now {
        return Err(format!("{text:?} is past: {}", super::text::instant(at, zone)));
    }
    Ok(at)
}

fn local(text: &str, now: &Zoned, zone: &TimeZone) -> Result<Timestamp, String> {
    let unknown = || format!("{:?} is no time; {FORMS}", super::text::clean(text));
    if let Some(datetime) = date_time(text) {
        return resolve(datetime, zone);
    }
    let (day, hour) = match text.split_once(char::is_whitespace) {
        Some((day, hour)) => (Some(day), hour.trim()),
        None => (None, text),
    };
    let time = hour_minute(hour).ok_or_else(unknown)?;
    let today = now.date();
    let on = |days: i8| today.checked_add(i32::from(days).days()).map(|d| d.to_datetime(time)).map_err(|_| unknown());
    // A moment that has passed today is meant a day or a week later; tried in this order, the first that is not past is meant.
    let (first, then) = match day.map(str::to_ascii_lowercase).as_deref() {
        None => (0, 1),
        Some("today") => (0, 0),
        Some("tomorrow") => (1, 1),
        Some(name) => {
            let until = now.weekday().until(weekday(name).ok_or_else(unknown)?);
            (until, until + if until == 0 { 7 } else { 0 })
        }
    };
    let at = resolve(on(first)?, zone)?;
    if at < now.timestamp() { resolve(on(then)?, zone) } else { Ok(at) }
}

/// `2026-11-25 21:00`, `2026-11-25T21:00:00`. A date alone is no time: midnight is hardly ever meant.
fn date_time(text: &str) -> Option<DateTime> {
    text.contains(':').then(|| text.parse().ok()).flatten().filter(|_| text.len() > 10 && text.as_bytes()[4] == b'-')
}

fn hour_minute(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |s: &str, max: usize| (1..=max).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    (digits(hour, 2) && minute.len() == 2 && digits(minute, 2)).then_some(())?;
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

fn weekday(name: &str) -> Option<Weekday> {
    const DAYS: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let name = name.trim_end_matches('.');
    (name.len() >= 3).then(|| DAYS.iter().find(|(full, _)| full.starts_with(name))).flatten().map(|(_, day)| *day)
}

/// A local time as an instant. Where clocks are changed, no guess is made.
fn resolve(local: DateTime, zone: &TimeZone) -> Result<Timestamp, String> {
    let name = zone.iana_name().unwrap_or("the local zone");
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let shown = local.strftime("%Y-%m-%d %H:%M");
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => ambiguous.unambiguous().map_err(|e| format!("{shown} is no time in {name}: {e}")),
        AmbiguousOffset::Gap { .. } => {
            Err(format!("{shown} does not exist in {name}: clocks go forward then; choose another time"))
        }
        AmbiguousOffset::Fold { before, after } => Err(format!(
            "{shown} comes twice in {name}: clocks go back then; write {0}{before} or {0}{after}",
            local.strftime("%Y-%m-%dT%H:%M:%S"),
            before = Offset(before),
            after = Offset(after),
        )),
    }
}

/// An offset as RFC 3339 writes it.
struct Offset(jiff::tz::Offset);

impl std::fmt::Display for Offset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let minutes = self.0.seconds() / 60;
        write!(f, "{}{:02}:{:02}", if minutes < 0 { '-' } else { '+' }, minutes.abs() / 60, minutes.abs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn madrid() -> TimeZone {
        TimeZone::get("Europe/Madrid").unwrap()
    }

    /// A Tuesday, 12:00 in Madrid.
    fn tuesday_noon() -> Timestamp {
        "2026-11-24T12:00:00+01:00".parse().unwrap()
    }

    #[test]
    fn a_time_is_the_next_such_moment_in_the_local_zone() {
        for (text, expected) in [
            ("2026-11-25T21:00:00+01:00", "2026-11-25T20:00:00Z"),
            ("2026-11-25T21:00:00Z", "2026-11-25T21:00:00Z"),
            ("2026-11-25 21:00", "2026-11-25T20:00:00Z"),
            ("2026-11-25T21:00", "2026-11-25T20:00:00Z"),
            ("21:00", "2026-11-24T20:00:00Z"),
            ("9:30", "2026-11-25T08:30:00Z"),
            ("Tue 21:00", "2026-11-24T20:00:00Z"),
            ("tuesday 11:00", "2026-12-01T10:00:00Z"),
            ("Mon 21:00", "2026-11-30T20:00:00Z"),
            ("today 12:30", "2026-11-24T11:30:00Z"),
            ("Tomorrow 00:05", "2026-11-24T23:05:00Z"),
        ] {
            let at = parse(text, tuesday_noon(), &madrid());
            assert_eq!(at, Ok(expected.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_forms_that_are() {
        for text in
            ["", "soon", "25:00", "12:60", "21", "2026-11-25", "2026-02-30 10:00", "Tu 21:00", "Someday 21:00", "12:0", "+1:00"]
        {
            let said = parse(text, tuesday_noon(), &madrid()).unwrap_err();
            assert!(said.contains("is no time; write it as"), "{text}: {said}");
        }
    }

    #[test]
    fn a_past_time_is_refused() {
        for text in ["2020-01-01T00:00:00Z", "today 11:59", "2026-11-24 11:00"] {
            assert!(parse(text, tuesday_noon(), &madrid()).unwrap_err().contains("is past"), "{text}");
        }
    }

    #[test]
    fn no_guess_is_made_where_clocks_are_changed() {
        let now = "2026-03-01T00:00:00Z".parse().unwrap();
        let gap = parse("2026-03-29 02:30", now, &madrid()).unwrap_err();
        assert!(gap.contains("does not exist in Europe/Madrid"), "{gap}");
        let fold = parse("2026-10-25 02:30", now, &madrid()).unwrap_err();
        assert!(fold.contains("2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00"), "{fold}");
    }
}
