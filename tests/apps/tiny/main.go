// Command tiny is a small application with a database, a migration and releases that go wrong on purpose. The stories
// promote it from one environment to another, and two of its subcommands judge the result from outside.
//
// One binary serves every release. Which release an image is stands in its environment (TINY_RELEASE), so the images
// differ in configuration, hence in digest, which is all that a release is to the operator:
//
//	1             the base
//	2             a good successor: its migration adds a column, fills it, and adds a table
//	2-broken      its migration commits the loss of half the rows, then fails
//	2-crashloop   its migration is fine, its server exits at once
//	2-unverified  starts and calls itself healthy, but no page and no list can be read
//	2-slow        its migration commits a first half, pauses for TINY_SLOW (20s), then commits the rest
//	2-hungry      its migration commits a first half, then takes memory until it is ended for that
//
// In a pod: serve, migrate, check. Outside, against a Service's address: writer, poll, missing; against the database's: direct.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// command is one subcommand. It returns when its work is done or ctx ends (SIGTERM or SIGINT).
type command func(ctx context.Context, args []string) error

var commands = map[string]command{
	"serve":   serve,
	"migrate": migrate,
	"check":   check,
	"writer":  writer,
	"poll":    poll,
	"missing": missing,
	"direct":  direct,
}

const usage = "usage: tiny serve | migrate | check | writer | poll | missing | direct   (tiny COMMAND -h lists its flags)"

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	// As process 1 of a container, a signal without a handler is ignored by the kernel: every subcommand needs this.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := commands[os.Args[1]](ctx, os.Args[2:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "tiny %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
