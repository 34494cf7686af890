package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// observation is one line of a poller's file: what one request over a connection of its own was answered. Status is 0
// where there was no answer, and Error says why.
type observation struct {
	Time        time.Time `json:"time"` // when it was asked
	Millis      int64     `json:"ms"`   // how long the answer took
	Status      int       `json:"status"`
	RetryAfter  string    `json:"retryAfter,omitempty"`
	ContentType string    `json:"contentType,omitempty"`
	Release     string    `json:"release,omitempty"` // X-Release, which only tiny sends
	Error       string    `json:"error,omitempty"`
}

// poll asks an address at a fixed rate, each time over a new connection, as new users would come.
func poll(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("tiny poll", flag.ContinueOnError)
	url := flags.String("url", "", "the address to ask, path included")
	rate := flags.Float64("rate", 10, "requests a second; they do not wait for each other")
	out := flags.String("out", "", "file to which each answer is appended, one line of JSON each")
	accept := flags.String("accept", "*/*", "the Accept header")
	say := flags.String("say", "", "a name; then a sentence is printed each time its answer changes")
	duration := flags.Duration("for", 0, "how long; default: until told to stop")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *url == "" || *rate <= 0 || (*out == "" && *say == "") {
		return errors.New("--url, and --out or --say, are required; --rate is above 0")
	}
	var lines io.Writer = io.Discard
	if *out != "" {
		file, err := os.OpenFile(*out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer file.Close()
		lines = file
	}
	if *duration > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, *duration)
		defer stop()
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		Timeout:       5 * time.Second,
		CheckRedirect: asAnswered,
	}
	ticker := time.NewTicker(time.Duration(float64(time.Second) / *rate))
	defer ticker.Stop()
	var group sync.WaitGroup
	var mu sync.Mutex // guards lines and said
	var said string
	var failure error
	for ctx.Err() == nil {
		group.Go(func() {
			seen := observe(client, *url, *accept)
			mu.Lock()
			defer mu.Unlock()
			if err := json.NewEncoder(lines).Encode(seen); err != nil && failure == nil {
				failure = err
			}
			if *say != "" && seen.state() != said {
				said = seen.state()
				fmt.Println(seen.sentence(*say))
			}
		})
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	group.Wait()
	return failure
}

func observe(client *http.Client, url, accept string) observation {
	seen := observation{Time: time.Now().UTC()}
	defer func() { seen.Millis = time.Since(seen.Time).Milliseconds() }()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		seen.Error = err.Error()
		return seen
	}
	request.Header.Set("Accept", accept)
	response, err := client.Do(request)
	if err != nil {
		seen.Error = err.Error()
		return seen
	}
	defer response.Body.Close()
	seen.Status = response.StatusCode
	seen.RetryAfter = response.Header.Get("Retry-After")
	seen.ContentType = response.Header.Get("Content-Type")
	seen.Release = response.Header.Get("X-Release")
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		seen.Error = err.Error() // a body cut short: the status alone would hide it
	}
	return seen
}

// state is what makes two observations worth telling apart. Not Retry-After, which may count down.
func (o observation) state() string {
	return fmt.Sprint(o.Status, o.Release, o.Error != "")
}

func (o observation) sentence(name string) string {
	at := o.Time.Local().Format("15:04:05")
	switch {
	case o.Status == 0:
		return fmt.Sprintf("%s %s does not answer: %s", at, name, o.Error)
	case o.Error != "":
		return fmt.Sprintf("%s %s answers %d and breaks off: %s", at, name, o.Status, o.Error)
	case o.RetryAfter != "":
		return fmt.Sprintf("%s %s answers %d (Retry-After %s)", at, name, o.Status, o.RetryAfter)
	case o.Release != "":
		return fmt.Sprintf("%s %s answers %d (release %s)", at, name, o.Status, o.Release)
	}
	return fmt.Sprintf("%s %s answers %d", at, name, o.Status)
}
