package api

import "time"

// App is what a user owns. Its environment lives in its releases.
type App struct {
	Name    AppName   `json:"name"`
	Created time.Time `json:"created"`
	// Locked apps cannot be deleted.
	Locked bool `json:"locked,omitempty"`
	// Release is the active release: the last one whose deployment succeeded. Empty before
	// the first.
	Release ReleaseID `json:"release,omitempty"`
	// Deployment is the newest deployment, finished or not. Empty before the first.
	Deployment DeploymentID `json:"deployment,omitempty"`
	// Deleting is set when the app is to go: its processes are stopped, then its records
	// are removed.
	Deleting bool `json:"deleting,omitempty"`
	// NextRelease is the number that the next release of the app gets, from 1.
	NextRelease int `json:"next_release"`
}

// BuildStatus is where a build is in its life.
type BuildStatus string

// The statuses of a build, in order.
const (
	BuildCreated  BuildStatus = "created"
	BuildRunning  BuildStatus = "running"
	BuildComplete BuildStatus = "complete"
	BuildFailed   BuildStatus = "failed"
)

// Ended reports whether the status can change no more.
func (s BuildStatus) Ended() bool { return s == BuildComplete || s == BuildFailed }

// Build turns source into image digests. It is immutable once it has ended.
type Build struct {
	ID     BuildID `json:"id"`
	App    AppName `json:"app"`
	Author string  `json:"author"`
	// Reason is why the author asked for it; what follows from the build stands on record with it.
	Reason      string    `json:"reason,omitempty"`
	Description string    `json:"description,omitempty"`
	GitSHA      string    `json:"git_sha,omitempty"`
	Created     time.Time `json:"created"`
	// Source is the digest ("sha256:…") of the uploaded tar in the rack's object store.
	// Empty for a build of image services only.
	Source string `json:"source,omitempty"`
	// Manifest is the text of the manifest as it was in the source, not interpolated.
	Manifest string `json:"manifest"`
	// ManifestFile is the name of the file that Manifest was read from.
	ManifestFile string       `json:"manifest_file"`
	Options      BuildOptions `json:"options"`
	// Services is what the manifest says, without secret values: what is to be built.
	Services []ServiceSpec `json:"services,omitempty"`
	// Sealed is a BuildSecrets as JSON, encrypted with the rack's keyring.
	Sealed []byte `json:"sealed,omitempty"`

	Status BuildStatus `json:"status"`
	// Process is the process that builds; empty until it is placed.
	Process ProcessID `json:"process,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// Images maps each service to the image that the build made or mirrored for it. A build that is
	// imported has them from its beginning.
	Images map[ServiceName]Image `json:"images,omitempty"`
	// Failure says why a failed build failed: the step and its last lines.
	Failure string `json:"failure,omitempty"`
	// Release is the release made from the build; empty until it is complete. Deployment is its
	// promotion, if the build was asked for one.
	Release    ReleaseID    `json:"release,omitempty"`
	Deployment DeploymentID `json:"deployment,omitempty"`
}

// Imported reports whether a build is created with its images, so that there is nothing to build.
func (b *Build) Imported() bool { return b.Status == BuildCreated && len(b.Images) > 0 }

// BuildSecrets is the part of a build that is encrypted at rest.
type BuildSecrets struct {
	// Env is the environment that was in force when the build began: arguments that are not
	// given are taken from it.
	Env map[string]string `json:"env,omitempty"`
	// Args are the arguments given for this build. They are in no BuildOptions at rest.
	Args map[string]string `json:"args,omitempty"`
}

// BuildOptions are the choices a user makes per build.
type BuildOptions struct {
	// Args are build arguments, NAME to value; they win over the environment.
	Args    map[string]string `json:"args,omitempty"`
	NoCache bool              `json:"no_cache,omitempty"`
	// Development builds the stage named "development" where a Dockerfile has one.
	Development bool `json:"development,omitempty"`
	// Promote deploys the release as soon as it is made, whether or not anybody still waits for
	// it.
	Promote bool `json:"promote,omitempty"`
}

// Image is one image in the rack's registry.
type Image struct {
	// Repository is the path in the registry, without a host: "hello".
	Repository string `json:"repository"`
	// Digest is the manifest digest, "sha256:…".
	Digest string `json:"digest"`
	Size   Bytes  `json:"size,omitempty"`
}

// RackHost stands for the rack's own registry in image references. It is never resolved:
// whoever pulls maps it to the servers' present addresses.
const RackHost = "rack.internal"

// Ref returns the reference by digest.
func (i Image) Ref() string { return RackHost + "/" + i.Repository + "@" + i.Digest }

// Release is a numbered, immutable set of what runs.
type Release struct {
	ID          ReleaseID `json:"id"`
	App         AppName   `json:"app"`
	Number      int       `json:"number"` // v1, v2, … per app
	Build       BuildID   `json:"build,omitempty"`
	Created     time.Time `json:"created"`
	Author      string    `json:"author"`
	Description string    `json:"description,omitempty"`
	// Manifest is the text as it was in the build, not interpolated.
	Manifest string `json:"manifest,omitempty"`
	// Services is what the manifest and the environment say, without secret values.
	Services []ServiceSpec `json:"services,omitempty"`
	// Sealed is a ReleaseSecrets as JSON, encrypted with the rack's keyring. EnvNames lists
	// the names in it, sorted, so that they can be shown without opening it.
	Sealed   []byte   `json:"sealed,omitempty"`
	EnvNames []string `json:"env_names,omitempty"`
	// EnvDigest is a keyed digest of the environment: equal digests mean equal values.
	EnvDigest string `json:"env_digest,omitempty"`
}

// ReleaseSecrets is the part of a release that is encrypted at rest.
type ReleaseSecrets struct {
	// Env is the environment of the app.
	Env map[string]string `json:"env"`
	// Services holds what each service gets after declaration rules and interpolation.
	Services map[ServiceName]ServiceSecrets `json:"services,omitempty"`
}

// ServiceSecrets is the part of a service that may carry environment values.
type ServiceSecrets struct {
	Env     map[string]string `json:"env,omitempty"`
	Command []string          `json:"command,omitempty"`
}
