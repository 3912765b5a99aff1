package testkit

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// delays are for how long in all each thread of a process could have run and had no processor, by the thread's number. A
// system other than Linux does not tell: then there are none.
type delays map[string]time.Duration

// delaysOf reads the delays of a process. Threads that are gone are left out.
func delaysOf(process int) delays {
	folder := fmt.Sprintf("/proc/%d/task", process)
	threads, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	all := delays{}
	for _, thread := range threads {
		// Three numbers: ns on a processor, ns of waiting for one, and how often it had one.
		text, err := os.ReadFile(folder + "/" + thread.Name() + "/schedstat")
		fields := strings.Fields(string(text))
		if err != nil || len(fields) < 2 {
			continue
		}
		if ns, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
			all[thread.Name()] = time.Duration(ns)
		}
	}
	return all
}

// since returns the longest delay of one thread that has been added since before.
func (d delays) since(before delays) (longest time.Duration) {
	for thread, delay := range d {
		longest = max(longest, delay-before[thread])
	}
	return longest
}
