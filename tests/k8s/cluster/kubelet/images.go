package kubelet

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
)

// image is what stands for an image name: a root file system on this machine,
// and what an image's configuration says.
type image struct {
	Root       string   `json:"root"`
	Entrypoint []string `json:"entrypoint"`
	Env        []string `json:"env,omitempty"`
	User       int64    `json:"user"`
}

// image looks a name up at each start of a container: a name may come to mean
// something else at any time, as a tag may.
func (k *kubelet) image(name string) (*image, error) {
	all, err := readImages(filepath.Join(k.dir, "images.json"))
	if err != nil {
		log.Print(err)
	}
	if i := all[name]; i != nil {
		return i, nil
	}
	return nil, imageError{fmt.Errorf("no image %q on this machine", name)}
}

func readImages(path string) (map[string]*image, error) {
	all := map[string]*image{}
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return all, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	return all, err
}

// ImageMain writes one entry of images.json:
// image FILE NAME ROOT [--user UID] [--env K=V]... -- COMMAND [ARG]...
func ImageMain(args []string) int {
	fail := func(what any) int {
		fmt.Fprintln(os.Stderr, what)
		return 2
	}
	const usage = "usage: image FILE NAME ROOT [--user UID] [--env K=V]... -- COMMAND [ARG]..."
	if len(args) < 3 {
		return fail(usage)
	}
	out, name, img := args[0], args[1], &image{}
	root, err := filepath.Abs(args[2])
	if err != nil {
		return fail(err)
	}
	img.Root = root
	args = args[3:]
	for len(args) > 1 && args[0] != "--" {
		switch args[0] {
		case "--env":
			img.Env = append(img.Env, args[1])
		case "--user":
			if img.User, err = strconv.ParseInt(args[1], 10, 32); err != nil {
				return fail(err)
			}
		default:
			return fail(usage)
		}
		args = args[2:]
	}
	if len(args) < 2 {
		return fail(usage)
	}
	img.Entrypoint = args[1:]
	all, err := readImages(out)
	if err != nil {
		return fail(err)
	}
	all[name] = img
	b, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = os.WriteFile(out+".new", append(b, '\n'), 0o644)
	}
	if err == nil {
		err = os.Rename(out+".new", out)
	}
	if err != nil {
		return fail(err)
	}
	return 0
}
