// Package chronik gives a Go test binary a Chronik broker of its own.
package chronik

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// Bootstrap is the address of the broker that all tests of this binary share.
//
// Its data goes with it, and it ends when this process does: that closes the pipe to its standard input.
func Bootstrap(t testing.TB) string {
	t.Helper()
	address, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

var shared = sync.OnceValues(func() (string, error) {
	if running := os.Getenv("BOOTSTRAP"); running != "" {
		return running, nil
	}
	var log io.Writer = os.Stderr
	if path := os.Getenv("BROKER_LOG"); path != "" {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return "", err
		}
		log = file
	}
	return start(os.Getenv("BROKER"), log)
})

func start(binary string, log io.Writer) (string, error) {
	broker := exec.Command(binary, "standalone", "--ephemeral", "--listen", "127.0.0.1:0", "--until-stdin-closes")
	broker.Stderr = log
	if _, err := broker.StdinPipe(); err != nil {
		return "", err
	}
	output, err := broker.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := broker.Start(); err != nil {
		return "", err
	}
	var ready struct{ Bootstrap string }
	if err := json.NewDecoder(output).Decode(&ready); err != nil {
		return "", fmt.Errorf("%s was not ready: %w (%v)", binary, err, broker.Wait())
	}
	return ready.Bootstrap, nil
}

// Name is a name for this test's topics and groups that no other run has used.
func Name(t testing.TB) string {
	random := make([]byte, 4)
	_, _ = rand.Read(random)
	test := strings.NewReplacer("/", "-", ",", "-", "#", "-").Replace(t.Name())
	return test + "-" + hex.EncodeToString(random)
}

// Until calls attempt until it returns true; the test fails when that takes more than 30 seconds.
func Until(t testing.TB, what string, attempt func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !attempt(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s still not true: %s", what)
		}
	}
}
