//! The wish to stop: SIGTERM, seen by whatever waits. A statement that runs is cancelled, a child process is ended.

use std::time::Duration;

use tokio::sync::watch;

/// Sees whether to stop. Clones see the same.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// Says that all clones of its [`Stop`] shall stop.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<bool>);

/// It was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ended by a signal; the step can be taken up again")]
pub struct Stopped;

/// A pair of one who says and one who sees.
pub fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Says it.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// One that never asks to stop: for cleaning up.
    pub fn never() -> Self {
        let (sender, receiver) = watch::channel(false);
        drop(sender);
        Self(receiver)
    }

    /// Whether it was asked.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is asked; for ever if that never comes.
    pub async fn asked(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for a time, unless asked to stop.
    pub async fn pause(&self, time: Duration) -> Result<(), Stopped> {
        tokio::select! {
            () = self.asked() => Err(Stopped),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_ends_early_when_asked_to_stop_and_never_otherwise() {
        let (stopper, stop) = channel();
        assert_eq!(stop.pause(Duration::from_millis(1)).await, Ok(()));
        stopper.stop();
        assert!(stop.is_asked());
        assert_eq!(stop.pause(Duration::from_secs(60)).await, Err(Stopped));
        assert_eq!(Stop::never().pause(Duration::from_millis(1)).await, Ok(()));
    }
}
