//! What a program costs: time, processor, memory.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Until it is done.
    pub seconds: f64,
    /// Processor time of the program and its children.
    pub cpu: f64,
    /// Processor time of the server meanwhile.
    pub server_cpu: f64,
    /// The most memory that the program and its children held at once, in MiB; what they share counts once.
    pub peak_mib: f64,
    /// Something else that was counted, by the name of the work: bytes stored, milliseconds of a swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted: Option<f64>,
}

impl Cost {
    pub fn line(&self) -> String {
        let counted = self.counted.map(|n| format!(", {n}")).unwrap_or_default();
        format!(
            "{:.2} s, CPU {:.2} s and the server's {:.2} s, {:.0} MiB{counted}",
            self.seconds, self.cpu, self.server_cpu, self.peak_mib
        )
    }

    /// One after the other.
    pub fn then(self, next: Self) -> Self {
        Self {
            seconds: self.seconds + next.seconds,
            cpu: self.cpu + next.cpu,
            server_cpu: self.server_cpu + next.server_cpu,
            peak_mib: self.peak_mib.max(next.peak_mib),
            counted: None,
        }
    }
}

/// Processor time of a process's children that were waited for, and of theirs.
fn cpu(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<f64> = stat.rsplit(')').next().unwrap().split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
    // Hundredths of a second, in user and kernel.
    fields.get(12..14).map_or(0.0, |times| times.iter().sum::<f64>() / 100.0)
}

/// Bytes that a process and all below it hold. A page that several share is shared among them.
fn memory(pid: &str) -> u64 {
    let own = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let own = own.lines().find_map(|l| l.strip_prefix("Pss:")).and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children: Vec<String> = tasks
        .filter_map(|t| fs::read_to_string(t.path().join("children")).ok())
        .flat_map(|c| c.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    own.unwrap_or(0) * 1024 + children.iter().map(|c| memory(c)).sum::<u64>()
}

/// Runs a program to its end; `until` ends the first time at a line of its output. Both times, with all else the same.
pub fn timed(server: u32, program: &mut Command, until: Option<&str>) -> (Cost, Cost) {
    let name = format!("{:?}", program.get_program());
    let server = server.to_string();
    let stderr = Arc::new(Mutex::new(String::new()));
    let before = (cpu("self"), cpu(&server));
    let (began, mut counted) = (Instant::now(), None);
    let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (ended, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let watch = {
        let (ended, peak, pid) = (ended.clone(), peak.clone(), child.id().to_string());
        thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                peak.fetch_max(memory(&pid), Ordering::SeqCst);
                thread::sleep(Duration::from_millis(50));
            }
        })
    };
    let errors = {
        let (kept, pipe) = (stderr.clone(), child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        })
    };
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if until.is_some_and(|text| line.contains(text)) && counted.is_none() {
            counted = Some(began.elapsed());
        }
    }
    let status = child.wait().unwrap();
    let whole = began.elapsed();
    ended.store(true, Ordering::SeqCst);
    watch.join().unwrap();
    errors.join().unwrap();
    assert!(status.success(), "{name}: {status}: {}", stderr.lock().unwrap());
    // Sessions end a moment after their clients, and only then is their time counted.
    thread::sleep(Duration::from_millis(150));
    let cost = Cost {
        seconds: whole.as_secs_f64(),
        cpu: cpu("self") - before.0,
        server_cpu: cpu(&server) - before.1,
        peak_mib: peak.load(Ordering::SeqCst) as f64 / f64::from(1 << 20),
        counted: None,
    };
    (Cost { seconds: counted.unwrap_or(whole).as_secs_f64(), ..cost }, cost)
}
