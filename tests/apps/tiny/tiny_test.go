package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestGapsAreCountedFromOneAndBounded(t *testing.T) {
	for _, c := range []struct {
		written []int64
		limit   int
		want    []int64
	}{
		{nil, 5, []int64{}},
		{[]int64{1, 2, 3}, 5, []int64{}},
		{[]int64{3, 5}, 5, []int64{1, 2, 4}},
		{[]int64{1, 1_000_000_000}, 2, []int64{2, 3}},
	} {
		if got := gaps(c.written, c.limit); !reflect.DeepEqual(got, c.want) {
			t.Errorf("gaps(%v, %d) = %v, want %v", c.written, c.limit, got, c.want)
		}
	}
}

func TestAReleaseIsASchemaVersionAndAVariant(t *testing.T) {
	for _, name := range []string{"1", "2", "2-broken", "2-crashloop", "2-unverified", "2-slow", "2-hungry"} {
		if got, err := parseRelease(name); err != nil || got.name != name {
			t.Errorf("parseRelease(%q) = %+v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "0", "3", "two", "2-brokn"} {
		if got, err := parseRelease(name); err == nil {
			t.Errorf("parseRelease(%q) = %+v, want an error", name, got)
		}
	}
}

func TestTheUnverifiedReleaseIsHealthyOnlyToTheEyeOfItsHealthCheck(t *testing.T) {
	app := &application{release: release{name: "2-unverified", schema: 2, variant: variantUnverified}}
	for path, want := range map[string]int{"/": 500, "/writes": 500, "/config": 200} {
		recorder := httptest.NewRecorder()
		app.routes().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		if recorder.Code != want {
			t.Errorf("GET %s answered %d, want %d", path, recorder.Code, want)
		}
	}
}

func TestAWriterKeepsExactlyWhatWasAcknowledgedAndStopsWhenRefused(t *testing.T) {
	var seen atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if seen.Add(1) > 50 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	acks := filepath.Join(t.TempDir(), "acks")
	if err := writer(t.Context(), []string{"--url", server.URL, "--rate", "0", "--conns", "4", "--out", acks, "--until-refused"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(acks)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(text), "\n"); got != 50 {
		t.Errorf("%d acknowledgements kept, want 50", got)
	}
	if got := seen.Load(); got != 54 {
		t.Errorf("%d writes sent, want 50 and one refusal for each of 4 connections", got)
	}
}

func TestALostAcknowledgementIsAnErrorThatNamesIt(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("1\n3\n4\n"))
	}))
	defer server.Close()
	acks := filepath.Join(t.TempDir(), "acks")
	for text, want := range map[string]string{"3\n1\n": "", "1\n2\n3\n": "1 of 3 acknowledged writes are lost, the first: [2]"} {
		if err := os.WriteFile(acks, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := missing(t.Context(), []string{"--url", server.URL, "--acks", acks})
		if (want == "") != (err == nil) || err != nil && err.Error() != want {
			t.Errorf("with %q: %v, want %q", text, err, want)
		}
	}
}

func TestAPollerRecordsAnswersAndSilence(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.Header().Set("Content-Type", r.Header.Get("Accept"))
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer page.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	out := filepath.Join(t.TempDir(), "out")
	for _, url := range []string{page.URL, gone.URL} {
		ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := poll(ctx, []string{"--url", url, "--rate", "1", "--out", out, "--accept", "text/html"}); err != nil {
			t.Error(err)
		}
		stop()
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2: %s", len(lines), text)
	}
	var answered, silent observation
	if err := json.Unmarshal([]byte(lines[0]), &answered); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(lines[1]), &silent); err != nil {
		t.Fatal(err)
	}
	if answered.Status != 503 || answered.RetryAfter != "30" || answered.ContentType != "text/html" || answered.Error != "" {
		t.Errorf("the page was recorded as %+v", answered)
	}
	if silent.Status != 0 || silent.Error == "" {
		t.Errorf("a refused connection was recorded as %+v", silent)
	}
	if sentence := answered.sentence("production"); !strings.HasSuffix(sentence, "production answers 503 (Retry-After 30)") {
		t.Errorf("said %q", sentence)
	}
}
