package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// tally is what a writer prints when it ends, as one line of JSON. Sent is the sum of Acknowledged, Refused (answered,
// but not 200) and Unknown (no answer: the write may be there or not).
type tally struct {
	Sent         int64 `json:"sent"`
	Acknowledged int64 `json:"acknowledged"`
	Refused      int64 `json:"refused"`
	Unknown      int64 `json:"unknown"`
	// InFlight is how many other writes were under way when the first one was not acknowledged.
	InFlight int64 `json:"inFlightAtFirstRefusal"`
	// FirstRefusal and LastAcknowledged are absent where there was none.
	FirstRefusal     *time.Time `json:"firstRefusal,omitempty"`
	LastAcknowledged *time.Time `json:"lastAcknowledged,omitempty"`
}

// writing is the state that a writer's connections share.
type writing struct {
	url          string
	untilRefused bool
	next         atomic.Int64
	inFlight     atomic.Int64
	pace         <-chan time.Time // nil: as fast as the answers come

	mu    sync.Mutex // guards what follows
	tally tally
	acks  io.Writer
}

// writer sends numbered writes over several connections at once and keeps the number of each one that was acknowledged.
func writer(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("tiny writer", flag.ContinueOnError)
	url := flags.String("url", "", "the application's address")
	rate := flags.Float64("rate", 100, "writes a second over all connections; 0: as fast as the answers come")
	conns := flags.Int("conns", 8, "connections, each with one write in flight")
	from := flags.Int64("from", 1, "the first number")
	out := flags.String("out", "", "file to which each acknowledged number is appended, one a line")
	untilRefused := flags.Bool("until-refused", false, "each connection stops at its first write that is not acknowledged")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *url == "" || *out == "" || *conns < 1 || *rate < 0 {
		return errors.New("--url and --out are required, --conns is at least 1, --rate is not negative")
	}
	// Append: two writers, or one after another, may share the file, and every line of a killed one counts.
	file, err := os.OpenFile(*out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	w := &writing{url: strings.TrimRight(*url, "/") + "/writes", untilRefused: *untilRefused, acks: file}
	w.next.Store(*from)
	if *rate > 0 {
		ticker := time.NewTicker(time.Duration(float64(time.Second) / *rate))
		defer ticker.Stop()
		w.pace = ticker.C
	}
	var group sync.WaitGroup
	failures := make(chan error, *conns)
	for range *conns {
		group.Go(func() { failures <- w.connection(ctx) })
	}
	group.Wait()
	close(failures)
	if err := json.NewEncoder(os.Stdout).Encode(w.tally); err != nil {
		return err
	}
	for err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

// connection writes one number after the other over a connection of its own. Its only error is that an acknowledgement
// could not be kept: without it, the judgement would be worth nothing.
func (w *writing) connection(ctx context.Context) error {
	transport := &http.Transport{MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second, CheckRedirect: asAnswered}
	for {
		if w.pace != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-w.pace:
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		n := w.next.Add(1) - 1
		w.inFlight.Add(1)
		// Not ctx: a write under way when the writer is told to stop still gets its answer.
		status, err := post(client, w.url, n)
		others := w.inFlight.Add(-1)
		acknowledged, err := w.record(n, status, err, others)
		if err != nil {
			return err
		}
		if !acknowledged {
			if w.untilRefused {
				return nil
			}
			time.Sleep(50 * time.Millisecond) // an application that is away is not to be hammered
		}
	}
}

func (w *writing) record(n int64, status int, failure error, others int64) (acknowledged bool, err error) {
	now := time.Now().UTC()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally.Sent++
	if failure == nil && status == http.StatusOK {
		w.tally.Acknowledged++
		w.tally.LastAcknowledged = &now
		_, err := io.WriteString(w.acks, strconv.FormatInt(n, 10)+"\n")
		return true, err
	}
	if failure != nil {
		w.tally.Unknown++
	} else {
		w.tally.Refused++
	}
	if w.tally.FirstRefusal == nil {
		w.tally.FirstRefusal = &now
		w.tally.InFlight = others
	}
	return false, nil
}

func post(client *http.Client, url string, n int64) (status int, err error) {
	body := []byte(`{"n":` + strconv.FormatInt(n, 10) + `}`)
	response, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	// Read to the end, or the connection cannot be used again.
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return 0, err
	}
	return response.StatusCode, nil
}

// asAnswered keeps a client from following a redirect: a judge reports what was answered at the address it asked.
func asAnswered(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// missing compares what was acknowledged with what is there.
func missing(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("tiny missing", flag.ContinueOnError)
	url := flags.String("url", "", "the application's address")
	acks := flags.String("acks", "", "a file that tiny writer kept")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *url == "" || *acks == "" {
		return errors.New("--url and --acks are required")
	}
	file, err := os.Open(*acks)
	if err != nil {
		return err
	}
	defer file.Close()
	acknowledged, err := numbersOf(file)
	if err != nil {
		return err
	}
	body, err := get(ctx, &http.Client{Timeout: 10 * time.Second}, strings.TrimRight(*url, "/")+"/writes/numbers")
	if err != nil {
		return err
	}
	there, err := numbersOf(bytes.NewReader(body))
	if err != nil {
		return err
	}
	if lost := without(acknowledged, there); len(lost) > 0 {
		return fmt.Errorf("%d of %d acknowledged writes are lost, the first: %v", len(lost), len(acknowledged), lost[:min(len(lost), gapsShown)])
	}
	fmt.Printf("all %d acknowledged writes are there, among %d\n", len(acknowledged), len(there))
	return nil
}

func numbersOf(lines io.Reader) ([]int64, error) {
	var numbers []int64
	scanner := bufio.NewScanner(lines)
	for scanner.Scan() {
		n, err := strconv.ParseInt(scanner.Text(), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("expected a number a line: %w", err)
		}
		numbers = append(numbers, n)
	}
	return numbers, scanner.Err()
}

// without lists what is in wanted and not in there, in wanted's order.
func without(wanted, there []int64) []int64 {
	present := make(map[int64]bool, len(there))
	for _, n := range there {
		present[n] = true
	}
	var lost []int64
	for _, n := range wanted {
		if !present[n] {
			lost = append(lost, n)
		}
	}
	return lost
}
