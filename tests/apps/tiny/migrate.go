package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// steps lead from one schema version to the next: steps[0] from nothing to 1. Each step is a list of parts, and in a
// well-behaved release all the parts of all missing steps are one transaction.
var steps = [][]string{
	{
		`CREATE TABLE schema_version (version int NOT NULL)`,
		`CREATE TABLE writes (
			n bigint PRIMARY KEY,
			at timestamptz NOT NULL DEFAULT now(),
			release text NOT NULL,
			note text NOT NULL DEFAULT 'as written'
		)`,
		`INSERT INTO schema_version VALUES (1)`,
	},
	{
		`ALTER TABLE writes ADD COLUMN digits int`,
		`UPDATE writes SET digits = length(n::text)`,
		`CREATE TABLE releases_seen AS
			SELECT release, count(*) AS writes, min(at) AS first, max(at) AS last FROM writes GROUP BY release`,
		`UPDATE schema_version SET version = 2`,
	},
}

// halfOfSlow is how many parts of its step the slow release commits before it pauses.
const halfOfSlow = 2

// mostOfHungry is how many MiB the hungry release takes where nothing bounds it.
const mostOfHungry = 512

// destruction is what the broken release commits before it fails. Neither statement can be undone from the database
// itself: only an undo point or a backup brings the rows and the column back.
var destruction = []string{
	`ALTER TABLE writes DROP COLUMN note`,
	`DELETE FROM writes WHERE n % 2 = 0`,
}

// spoil does to files what destruction does to rows: in each directory every other entry goes, the others are written to, and
// new ones come. Nothing without a directory.
func spoil(directory string) error {
	if directory == "" {
		return nil
	}
	number := 0
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == directory || entry.IsDir() {
			return err
		}
		number++
		if number%2 == 0 || !entry.Type().IsRegular() {
			return os.Remove(path)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
		return os.WriteFile(path, []byte("half converted"), 0o600)
	})
	if err != nil {
		return fmt.Errorf("cannot convert the files: %w", err)
	}
	return os.WriteFile(filepath.Join(directory, "converted"), []byte("new"), 0o644)
}

// migrate brings the schema from whatever it is to this release's version.
func migrate(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("tiny migrate", flag.ContinueOnError)
	if err := flags.Parse(args); err != nil {
		return err
	}
	this, err := releaseFromEnv()
	if err != nil {
		return err
	}
	db, err := pgx.Connect(ctx, databaseURL())
	if err != nil {
		return fmt.Errorf("cannot reach the database: %w", err)
	}
	defer db.Close(context.WithoutCancel(ctx))

	from, err := schemaVersion(ctx, db)
	if err != nil {
		return err
	}
	if from > this.schema {
		return fmt.Errorf("the schema is at version %d, newer than %d, which release %s wants: there is no way back", from, this.schema, this.name)
	}
	if from == this.schema {
		fmt.Printf("the schema is at version %d already\n", from)
		return nil
	}
	var missing []string
	for _, step := range steps[from:this.schema] {
		missing = append(missing, step...)
	}

	switch this.variant {
	case variantBroken:
		if err := spoil(os.Getenv("TINY_FILES")); err != nil {
			return err
		}
		if err := inOneTransaction(ctx, db, destruction); err != nil {
			return err
		}
		return errors.New("committed the first half of the migration, then found what it cannot convert: half of the writes and the column note are gone")
	case variantHungry:
		if err := inOneTransaction(ctx, db, destruction); err != nil {
			return err
		}
		var kept [][]byte
		for len(kept) < mostOfHungry {
			// Written to, because memory that nobody has touched is nobody's.
			kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
			time.Sleep(time.Millisecond)
		}
		return fmt.Errorf("took %d MiB, and nobody ended it", len(kept))
	case variantSlow:
		pause := 20 * time.Second
		if text := os.Getenv("TINY_SLOW"); text != "" {
			if pause, err = time.ParseDuration(text); err != nil {
				return fmt.Errorf("TINY_SLOW: %w", err)
			}
		}
		cut := len(missing) - len(steps[this.schema-1]) + halfOfSlow
		if err := inOneTransaction(ctx, db, missing[:cut]); err != nil {
			return err
		}
		fmt.Printf("committed the first half; the rest follows in %s\n", pause)
		select {
		case <-ctx.Done():
			return errors.New("told to stop between the halves of the migration: the first is committed, the second is not")
		case <-time.After(pause):
		}
		missing = missing[cut:]
	}
	if err := inOneTransaction(ctx, db, missing); err != nil {
		return err
	}
	fmt.Printf("migrated the schema from version %d to %d\n", from, this.schema)
	return nil
}

func inOneTransaction(ctx context.Context, db *pgx.Conn, statements []string) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return fmt.Errorf("%w, in: %s", err, statement)
			}
		}
		return nil
	})
}
