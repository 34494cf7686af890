//! Times as in cron, five fields, in UTC.

use jiff::{ToSpan, civil::Date, tz::TimeZone};

use crate::api::Timestamp;

/// So many days are looked at: 29 February comes within them, also across a century.
const DAYS: i32 = 366 * 9;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A schedule, as sets of the values of each field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: Vec<i8>,
    hours: Vec<i8>,
    days: Vec<i8>,
    months: Vec<i8>,
    weekdays: Vec<i8>,
    /// Where both are restricted, either is enough: cron's own rule.
    either: bool,
}

impl Cron {
    /// Reads five fields. `Err`: which one is wrong, and how it is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(format!(
                "\"{text}\" has {} fields; five are wanted: minute, hour, day of the month, month, weekday",
                fields.len()
            ));
        };
        let mut weekdays = field("weekday", weekday, (0, 7), &WEEKDAYS, 0)?;
        if weekdays.contains(&7) {
            weekdays.retain(|d| *d != 7 && *d != 0);
            weekdays.insert(0, 0);
        }
        let cron = Self {
            minutes: field("minute", minute, (0, 59), &[], 0)?,
            hours: field("hour", hour, (0, 23), &[], 0)?,
            days: field("day of the month", day, (1, 31), &[], 0)?,
            months: field("month", month, (1, 12), &MONTHS, 1)?,
            weekdays,
            either: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        match cron.next(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(cron),
            None => Err(format!("\"{text}\" names a day that no month has; it would never come")),
        }
    }

    /// The first of its times after an instant.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.search(after, 1).find(|at| *at > after)
    }

    /// The last of its times up to an instant.
    pub fn latest(&self, until: Timestamp) -> Option<Timestamp> {
        self.search(until, -1).find(|at| *at <= until)
    }

    /// Its times from the day of an instant on, forwards or backwards.
    fn search(&self, from: Timestamp, direction: i32) -> impl Iterator<Item = Timestamp> + '_ {
        let first = from.to_zoned(TimeZone::UTC).date();
        (0..DAYS).map_while(move |n| first.checked_add((n * direction).days()).ok()).filter(|date| self.fits(*date)).flat_map(
            move |date| {
                let mut times: Vec<Timestamp> = self
                    .hours
                    .iter()
                    .flat_map(|hour| self.minutes.iter().map(move |minute| (*hour, *minute)))
                    .filter_map(|(hour, minute)| date.at(hour, minute, 0, 0).to_zoned(TimeZone::UTC).ok())
                    .map(|at| at.timestamp())
                    .collect();
                if direction < 0 {
                    times.reverse();
                }
                times
            },
        )
    }

    fn fits(&self, date: Date) -> bool {
        let day = self.days.contains(&date.day());
        let weekday = self.weekdays.contains(&(date.weekday().to_sunday_zero_offset()));
        self.months.contains(&date.month()) && if self.either { day || weekday } else { day && weekday }
    }
}

/// The values of a field: a list of `*`, values and ranges, each with a step.
fn field(what: &str, text: &str, (least, most): (i8, i8), names: &[&str], first_name: i8) -> Result<Vec<i8>, String> {
    let wrong = || format!("{what} \"{text}\": write *, values from {least} to {most}, ranges a-b, steps /n, and lists of them");
    let value = |word: &str| -> Option<i8> {
        let named = names.iter().position(|n| n.eq_ignore_ascii_case(word)).and_then(|i| i8::try_from(i).ok());
        let value = named.map(|i| i + first_name).or_else(|| word.parse().ok())?;
        (least..=most).contains(&value).then_some(value)
    };
    let mut out = Vec::new();
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(r, s)| (r, Some(s)));
        let step: usize = match step {
            Some(step) => step.parse().ok().filter(|s| (1..=60).contains(s)).ok_or_else(wrong)?,
            None => 1,
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, if what == "weekday" { 6 } else { most }),
            Some((from, to)) => (value(from).ok_or_else(wrong)?, value(to).ok_or_else(wrong)?),
            // A single value with a step goes on to the end, as cron has it.
            None if part.contains('/') => (value(range).ok_or_else(wrong)?, most),
            None => {
                let one = value(range).ok_or_else(wrong)?;
                (one, one)
            }
        };
        if from > to {
            return Err(wrong());
        }
        out.extend((from..=to).step_by(step));
    }
    out.sort_unstable();
    out.dedup();
    Ok(out)
}
