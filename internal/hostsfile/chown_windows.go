package hostsfile

import (
	"io/fs"
	"os"
)

// chown does nothing: a new file has the rights of its directory here.
func chown(*os.File, fs.FileInfo) error { return nil }
