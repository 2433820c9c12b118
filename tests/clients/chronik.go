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
// It ends when this process does: that closes the pipe to its standard input.
func Bootstrap(t testing.TB) string {
	t.Helper()
	if running := os.Getenv("BOOTSTRAP"); running != "" {
		return running
	}
	broker, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return broker.Bootstrap
}

var shared = sync.OnceValues(func() (*Broker, error) {
	var log io.Writer = os.Stderr
	if path := os.Getenv("BROKER_LOG"); path != "" {
		file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		log = file
	}
	return Start(os.Getenv("BROKER"), log)
})

// Broker is a broker on a free port, with data that goes with it; it ends when this process does, or before by Close.
type Broker struct {
	Bootstrap string `json:"bootstrap"`

	process *exec.Cmd
	input   io.Closer
}

// Start starts a broker and waits until it serves; its log goes to log.
func Start(binary string, log io.Writer) (*Broker, error) {
	process := exec.Command(binary, "standalone", "--ephemeral", "--listen", "127.0.0.1:0", "--until-stdin-closes")
	process.Stderr = log
	input, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	broker := &Broker{process: process, input: input}
	if err := json.NewDecoder(output).Decode(broker); err != nil {
		return nil, fmt.Errorf("%s was not ready: %w (%v)", binary, err, process.Wait())
	}
	return broker, nil
}

// Close closes the broker's standard input, which ends it, and waits for that.
func (b *Broker) Close() error {
	_ = b.input.Close()
	return b.process.Wait()
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
