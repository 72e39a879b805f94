package main

import (
	"net"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/target"
)

func TestTargetIsAliveWhileItAnswers(t *testing.T) {
	const patience = 300 * time.Millisecond
	// The kernel takes connections for it, and nobody ever accepts them.
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if answers(deaf.Addr(), patience) {
		t.Error("a server that accepts nothing counts as alive")
	}
	deaf.Close()
	if answers(deaf.Addr(), patience) {
		t.Error("a closed port counts as alive")
	}

	s, err := target.New(target.Options{Addr: "127.0.0.1:0", Limits: target.Limits{Connections: 1}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if !answers(s.Addr(), 5*time.Second) {
		t.Error("a server that answers does not count as alive")
	}
	guest, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()
	if !answers(s.Addr(), 5*time.Second) {
		t.Error("a server at its limit does not count as alive")
	}
}
