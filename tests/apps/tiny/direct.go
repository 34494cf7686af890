package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
)

// attempt is one line of a direct writer's file: a number that was committed, or why nothing could be written.
type attempt struct {
	Time  time.Time `json:"time"`
	N     int64     `json:"n,omitempty"`
	Error string    `json:"error,omitempty"`
}

// direct writes numbered rows straight into the database, past the application and its Service, and comes back whenever it
// is sent away. No maintenance page keeps such a writer out.
func direct(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("tiny direct", flag.ContinueOnError)
	url := flags.String("url", "", "the database's address")
	from := flags.Int64("from", 1, "the first number")
	out := flags.String("out", "", "file to which each attempt is appended, one line of JSON each")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *url == "" || *out == "" {
		return errors.New("--url and --out are required")
	}
	file, err := os.OpenFile(*out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := json.NewEncoder(file)
	n := *from
	for ctx.Err() == nil {
		failure := writeUntilCut(ctx, *url, lines, &n)
		if ctx.Err() != nil {
			break
		}
		if err := lines.Encode(attempt{Time: time.Now().UTC(), Error: failure.Error()}); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil
}

func writeUntilCut(ctx context.Context, url string, lines *json.Encoder, n *int64) error {
	db, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close(context.WithoutCancel(ctx))
	for ctx.Err() == nil {
		number := *n
		*n++
		// Not ctx: a write under way when the writer is told to stop still gets its answer.
		if _, err := db.Exec(context.WithoutCancel(ctx), `INSERT INTO writes (n, release) VALUES ($1, 'direct')`, pgx.QueryExecModeExec, number); err != nil {
			return err
		}
		if err := lines.Encode(attempt{Time: time.Now().UTC(), N: number}); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}
