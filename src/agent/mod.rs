//! What runs in Jobs: backup, proof, fence, undo, checks, the maintenance page.
