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
	"strings"
	"time"
)

// check uses the application as a person would, and changes nothing. It is what an environment's verification runs:
// health alone is no gate, see the unverified release.
func check(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("tiny check", flag.ContinueOnError)
	url := flags.String("url", os.Getenv("TARGET_URL"), "the application's address; default: $TARGET_URL")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *url == "" {
		return errors.New("no address: set TARGET_URL or --url")
	}
	client := &http.Client{Timeout: 5 * time.Second}
	for _, path := range []string{"/health", "/", "/writes"} {
		body, err := get(ctx, client, strings.TrimRight(*url, "/")+path)
		if err != nil {
			return err
		}
		if path != "/writes" {
			continue
		}
		var summary struct {
			Count *int `json:"count"`
		}
		if err := json.Unmarshal(body, &summary); err != nil || summary.Count == nil {
			return fmt.Errorf("GET %s answered 200, but not with a count: %.200s", path, body)
		}
		fmt.Printf("%s is healthy, shows its page and lists %d writes\n", *url, *summary.Count)
	}
	return nil
}

// get is the body of a 200, and an error for anything else.
func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s answered %s: %.200s", url, response.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}
