package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// schemaPatience is how long a starting server waits for the schema that it wants before it says so and exits.
	schemaPatience = 3 * time.Second
	// statementPatience bounds a request's work on the database, so that a fenced database answers 503, not silence.
	statementPatience = 2 * time.Second
	// stopPatience is what requests in flight get after SIGTERM. The process ends within a second.
	stopPatience = 900 * time.Millisecond
	// gapsShown bounds the list of missing numbers.
	gapsShown = 20
)

// application is the server's state: which release it is, and its database.
type application struct {
	release release
	db      *pgxpool.Pool
}

// serve answers HTTP until it is told to stop. It starts only on the schema of its own release.
func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("tiny serve", flag.ContinueOnError)
	listen := flags.String("listen", ":8080", "address to listen on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	this, err := releaseFromEnv()
	if err != nil {
		return err
	}
	if this.variant == variantCrashloop {
		return fmt.Errorf("release %s cannot start: its configuration parser rejects every configuration", this.name)
	}
	config, err := pgxpool.ParseConfig(databaseURL())
	if err != nil {
		return fmt.Errorf("cannot read the database's address: %w", err)
	}
	config.MaxConns = 8
	// Prepared statements would outlive a migration that changes their tables, and answer an error once per connection.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	db, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("cannot set up the database pool: %w", err)
	}
	defer db.Close()
	app := &application{release: this, db: db}
	if err := app.awaitSchema(ctx); err != nil {
		return err
	}

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: app.routes(), ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	fmt.Printf("release %s serves on %s\n", this.name, listener.Addr())
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	// A context of its own: the one that just ended would cut off the requests that are to be finished.
	patience, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		return fmt.Errorf("some requests were still in flight: %w", err)
	}
	fmt.Println("stopped, every request answered")
	return nil
}

func (app *application) awaitSchema(ctx context.Context) error {
	deadline := time.Now().Add(schemaPatience)
	for {
		err := app.schemaFits(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("gave up after %s: %w", schemaPatience, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// schemaFits is an error unless the database answers with exactly this release's schema version.
func (app *application) schemaFits(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statementPatience)
	defer cancel()
	version, err := schemaVersion(ctx, app.db)
	if err != nil {
		return err
	}
	if version != app.release.schema {
		return fmt.Errorf("the schema is at version %d, release %s wants %d", version, app.release.name, app.release.schema)
	}
	return nil
}

func (app *application) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", app.page)
	mux.HandleFunc("GET /health", app.health)
	mux.HandleFunc("GET /ready", app.health)
	mux.HandleFunc("GET /config", app.config)
	mux.HandleFunc("POST /writes", app.write)
	mux.HandleFunc("GET /writes", app.summary)
	mux.HandleFunc("GET /writes/numbers", app.numbers)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Lets a poller tell the application from whatever else may answer in its place.
		w.Header().Set("X-Release", app.release.name)
		// The unverified release lies about its health, like real ones: only a check that uses it finds out.
		honest := r.URL.Path == "/health" || r.URL.Path == "/ready" || r.URL.Path == "/config"
		if app.release.variant == variantUnverified && !honest {
			http.Error(w, "template not found", http.StatusInternalServerError)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (app *application) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<!doctype html><title>tiny</title><h1>tiny, release %s</h1>\n", app.release.name)
}

func (app *application) health(w http.ResponseWriter, r *http.Request) {
	if err := app.schemaFits(r.Context()); err != nil {
		answer(w, http.StatusServiceUnavailable, map[string]any{"release": app.release.name, "error": err.Error()})
		return
	}
	answer(w, http.StatusOK, map[string]any{"release": app.release.name})
}

// config shows the two values that the stories configure: one that travels with a release, one that each environment
// keeps. It shows no other, because the environment also holds the database's password.
func (app *application) config(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"GREETING": os.Getenv("GREETING"), "BASE_URL": os.Getenv("BASE_URL")})
}

// write answers 200 only for a number that is committed: an acknowledged write is a promise that the stories hold the
// operator to. A connection cut while committing is answered 503, though the row may be there.
func (app *application) write(w http.ResponseWriter, r *http.Request) {
	var body struct {
		N int64 `json:"n"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1024)).Decode(&body); err != nil || body.N < 1 {
		answer(w, http.StatusBadRequest, map[string]any{"error": `expected {"n": NUMBER} with a number from 1`})
		return
	}
	// Not the request's context: a client that hangs up must not decide whether the write happens.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), statementPatience)
	defer cancel()
	_, err := app.db.Exec(ctx, `INSERT INTO writes (n, release) VALUES ($1, $2)`, body.N, app.release.name)
	var failure *pgconn.PgError
	if errors.As(err, &failure) && failure.Code == "23505" { // unique_violation
		answer(w, http.StatusConflict, map[string]any{"error": fmt.Sprintf("%d is written already", body.N)})
		return
	}
	if err != nil {
		answer(w, http.StatusServiceUnavailable, map[string]any{"error": err.Error()})
		return
	}
	answer(w, http.StatusOK, map[string]any{"n": body.N})
}

func (app *application) summary(w http.ResponseWriter, r *http.Request) {
	written, err := app.written(r.Context())
	if err != nil {
		answer(w, http.StatusServiceUnavailable, map[string]any{"error": err.Error()})
		return
	}
	var max int64
	if len(written) > 0 {
		max = written[len(written)-1]
	}
	answer(w, http.StatusOK, map[string]any{"count": len(written), "max": max, "missing": gaps(written, gapsShown)})
}

func (app *application) numbers(w http.ResponseWriter, r *http.Request) {
	written, err := app.written(r.Context())
	if err != nil {
		answer(w, http.StatusServiceUnavailable, map[string]any{"error": err.Error()})
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	for _, n := range written {
		fmt.Fprintln(w, n)
	}
}

// written lists every number in the database, ascending.
func (app *application) written(ctx context.Context) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, statementPatience)
	defer cancel()
	rows, err := app.db.Query(ctx, `SELECT n FROM writes ORDER BY n`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// gaps lists the first numbers, at most limit, that are missing between 1 and the last of an ascending list.
func gaps(ascending []int64, limit int) []int64 {
	found := []int64{}
	expected := int64(1)
	for _, n := range ascending {
		for ; expected < n; expected++ {
			if len(found) == limit {
				return found
			}
			found = append(found, expected)
		}
		expected = n + 1
	}
	return found
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client may be gone: nobody is left to tell.
	_ = json.NewEncoder(w).Encode(body)
}
