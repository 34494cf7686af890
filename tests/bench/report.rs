//! What was measured: as a table, as JSON, and as a picture.

use std::{collections::BTreeMap, fmt::Write, fs, process::Command};

use serde_json::{Value, json};

use super::{cost::Cost, place::Place};

/// A ratio within a round: how many times as long `theirs` takes as `ours`, and what it should at least be.
struct Ratio {
    says: &'static str,
    theirs: &'static str,
    ours: &'static str,
    at_least: f64,
}

const RATIOS: [Ratio; 7] = [
    Ratio { says: "backup, times as fast as pg_dump", theirs: "pg_dump -Fd -j2", ours: "backup", at_least: 2.5 },
    Ratio {
        says: "backup, times as fast as pg_dump with --compress=1",
        theirs: "pg_dump -Fd -j2 --compress=1",
        ours: "backup",
        at_least: 0.0,
    },
    Ratio { says: "restore, times as fast as pg_restore", theirs: "pg_restore -j2", ours: "restore", at_least: 1.0 },
    Ratio {
        says: "masked mirror, times as fast as pgcopydb unmasked",
        theirs: "pgcopydb clone, unmasked",
        ours: "mirror",
        at_least: 1.0 / 1.3,
    },
    Ratio {
        says: "masked mirror, times as fast as Greenmask, the same columns",
        theirs: "Greenmask, the same columns",
        ours: "mirror",
        at_least: 2.0,
    },
    // It masks half of the columns.
    Ratio {
        says: "masked mirror, times as fast as Greenmask, names and emails alone",
        theirs: "Greenmask, names and emails",
        ours: "mirror",
        at_least: 0.0,
    },
    Ratio {
        says: "masked mirror, times as fast as Greenmask, hashed",
        theirs: "Greenmask, hashed",
        ours: "mirror",
        at_least: 2.0,
    },
];

/// What is shown in the picture, in this order.
const SHOWN: [&str; 12] = [
    "backup",
    "pg_dump -Fd -j2",
    "pg_dump -Fd -j2 --compress=1",
    "second backup",
    "restore",
    "pg_restore -j2",
    "mirror",
    "mirror, compared",
    "pgcopydb clone, unmasked",
    "Greenmask, the same columns",
    "Greenmask, names and emails",
    "Greenmask, hashed",
];

pub struct Report {
    rounds: Vec<BTreeMap<&'static str, Cost>>,
    setting: Value,
    left_out: Vec<String>,
}

/// The least, the median and the most.
fn spread(mut all: Vec<f64>) -> Option<[f64; 3]> {
    all.sort_by(f64::total_cmp);
    Some([*all.first()?, (all[(all.len() - 1) / 2] + all[all.len() / 2]) / 2.0, *all.last()?])
}

fn rounded(all: [f64; 3]) -> Value {
    let [least, median, most] = all.map(|n| (n * 1000.0).round() / 1000.0);
    json!({"least": least, "median": median, "most": most})
}

impl Report {
    pub fn new(place: &Place, rounds: Vec<BTreeMap<&'static str, Cost>>, left_out: Vec<String>) -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor =
            processor.lines().find_map(|l| l.strip_prefix("model name")).unwrap_or_default().trim_start_matches(['\t', ' ', ':']);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let commit = Command::new("git")
            .args(["describe", "--always", "--dirty"])
            .output()
            .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        let setting = json!({"rows": place.rows, "bytes": place.bytes, "server": place.server_version, "processor": processor,
            "cores": cores, "commit": commit.unwrap_or_default()});
        Self { rounds, setting, left_out }
    }

    fn of(&self, what: &str, value: impl Fn(&Cost) -> f64) -> Option<[f64; 3]> {
        spread(self.rounds.iter().filter_map(|r| r.get(what)).map(value).collect())
    }

    fn ratio(&self, ratio: &Ratio) -> Option<[f64; 3]> {
        let of = |round: &BTreeMap<_, Cost>| Some(round.get(ratio.theirs)?.seconds / round.get(ratio.ours)?.seconds);
        spread(self.rounds.iter().filter_map(of).collect())
    }

    /// What should be reached besides ratios: the sentence, what was reached, whether it is enough.
    fn figures(&self) -> Vec<(String, Option<[f64; 3]>, bool)> {
        let counted = |what: &str| self.rounds.iter().filter_map(|r| r.get(what)?.counted).collect::<Vec<_>>();
        let bytes = self.setting["bytes"].as_f64().unwrap_or(1.0);
        let second = spread(counted("second backup").into_iter().map(|n| n / bytes * 100.0).collect());
        let ours = ["backup", "restore, compared", "second backup", "mirror, compared"];
        let peak = spread(ours.iter().filter_map(|o| Some(self.of(o, |c| c.peak_mib)?[2])).collect());
        let within = |of: &Option<[f64; 3]>, limit: f64| of.is_some_and(|o| o[1] <= limit);
        let (lock, swap) = (self.of("lock of an empty run", |c| c.seconds), self.of("swap", |c| c.seconds * 1000.0));
        vec![
            ("second backup, % of the rows' bytes stored (under 1)".into(), second, within(&second, 1.0)),
            ("most memory of ours, MiB (256 at most)".into(), peak, peak.is_some_and(|p| p[2] <= 256.0)),
            ("lock of an empty run, s (5 at most)".into(), lock, within(&lock, 5.0)),
            ("swap, ms (50 at most)".into(), swap, within(&swap, 50.0)),
        ]
    }

    pub fn text(&self) -> String {
        let mut out = format!(
            "{}\n\n{:38} {:>22} {:>8} {:>8} {:>8}\n",
            self.setting, "", "s: median (least-most)", "CPU s", "server's", "MiB"
        );
        let mut names: Vec<&str> = self.rounds.iter().flat_map(|r| r.keys().copied()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let ([a, b, c], cpu, server, memory) = (
                self.of(name, |c| c.seconds).unwrap_or_default(),
                self.of(name, |c| c.cpu).unwrap_or_default(),
                self.of(name, |c| c.server_cpu).unwrap_or_default(),
                self.of(name, |c| c.peak_mib).unwrap_or_default(),
            );
            let seconds = format!("{b:.2} ({a:.2}-{c:.2})");
            let _ = writeln!(out, "{name:38} {seconds:>22} {:8.2} {:8.2} {:8.0}", cpu[1], server[1], memory[2]);
        }
        out.push('\n');
        for ratio in RATIOS {
            if let Some([a, b, c]) = self.ratio(&ratio) {
                let said = match ratio.at_least {
                    0.0 => String::new(),
                    least if b >= least => format!(", reached: {least:.2}"),
                    least => format!(", MISSED: {least:.2}"),
                };
                let _ = writeln!(out, "{}: {b:.2} ({a:.2}-{c:.2}){said}", ratio.says);
            }
        }
        for (says, of, enough) in self.figures() {
            if let Some([a, b, c]) = of {
                let _ = writeln!(out, "{says}: {b:.2} ({a:.2}-{c:.2}){}", if enough { ", reached" } else { ", MISSED" });
            }
        }
        for why in &self.left_out {
            let _ = writeln!(out, "left out: {why}");
        }
        out
    }

    fn json(&self) -> Value {
        let ratios: Vec<Value> = RATIOS
            .iter()
            .filter_map(|r| {
                let of = self.ratio(r)?;
                Some(json!({"what": r.says, "ratio": rounded(of), "atLeast": r.at_least, "reached": of[1] >= r.at_least}))
            })
            .collect();
        let figures: Vec<Value> = self
            .figures()
            .into_iter()
            .filter_map(|(what, of, reached)| Some(json!({"what": what, "figure": rounded(of?), "reached": reached})))
            .collect();
        json!({"setting": self.setting, "leftOut": self.left_out, "ratios": ratios, "figures": figures, "rounds": self.rounds})
    }

    /// Bars of medians, with a line from the least to the most.
    fn svg(&self) -> String {
        let shown: Vec<(&str, [f64; 3])> = SHOWN.iter().filter_map(|s| Some((*s, self.of(s, |c| c.seconds)?))).collect();
        let longest = shown.iter().map(|s| s.1[2]).fold(1.0, f64::max);
        let (left, width, line) = (250.0, 520.0, 26.0);
        let height = shown.len() as f64 * line + 50.0;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"22\" font-weight=\"bold\">Seconds for {:.2} GB, median of {} rounds; shorter is better</text>\n",
            self.setting["bytes"].as_f64().unwrap_or_default() / 1e9,
            self.rounds.len()
        );
        for (at, (what, [a, b, c])) in shown.into_iter().enumerate() {
            let y = 40.0 + at as f64 * line;
            let x = |seconds: f64| left + seconds / longest * width;
            let ours = !what.starts_with("pg") && !what.starts_with("Green");
            let _ = write!(
                out,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{what}</text>\n<rect x=\"{left}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"18\" fill=\"{}\"/>\n\
                 <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.0}\" y2=\"{:.0}\" stroke=\"black\"/>\n<text x=\"{:.1}\" y=\"{:.0}\">{b:.1}</text>\n",
                left - 8.0,
                y + 14.0,
                x(b) - left,
                if ours { "#2b7a78" } else { "#b8b8b8" },
                x(a),
                x(c),
                y + 9.0,
                y + 9.0,
                x(c) + 6.0,
                y + 14.0
            );
        }
        out + "</svg>\n"
    }

    pub fn write(&self) {
        fs::write("target/bench.json", serde_json::to_string_pretty(&self.json()).unwrap()).unwrap();
        fs::write("target/bench.svg", self.svg()).unwrap();
        println!("\ntarget/bench.json, target/bench.svg");
    }
}
