/**
 * What is changed in copies of Nix 2.8.0's own tests, so that all they read of a cache comes through narswarm:
 * - what reads `file://$cacheDir` reads `$cacheUrl`; what writes goes on writing into the folder;
 * - what is published is signed (`?secret-key=`), since narswarm passes on nothing unsigned. Nix in these tests does not know that
 *   key, so for it the cache is as untrusted as before;
 * - where a script changes the folder behind its server, `narswarm` is told what it must have forgotten (kit/control.ts);
 * - expectations that are others with narswarm in front carry their reason: those are the ones to judge.
 */
import type { Patch } from './kit/patch.ts'
import type { NixTest } from './kit/suite.ts'

const PUBLISHED_TO = '"file://$cacheDir?secret-key=$publishKey"'

const BINARY_CACHE: readonly Patch[] = [
  {
    find: 'nix copy --to file://$cacheDir $outPath\n',
    replace: `nix copy --to ${PUBLISHED_TO} $outPath\nnarswarm forget-all\n`,
  },
  {
    find: '--substituters "file://$cacheDir"',
    replace: '--substituters "$cacheUrl"',
    times: 15,
  },

  // Logs
  {
    find: 'nix log --store file://$cacheDir $outPath 2>&1',
    replace: 'nix log --store "$cacheUrl" $outPath 2>&1',
  },
  {
    find: 'nix log --store file://$cacheDir $outPath | grep FOO',
    replace: `nix log --store "$cacheUrl" $outPath 2>&1 | grep 'is not available'`,
    expectation:
      'To find the log of an output path Nix needs its Deriver, which no signature covers and we do not pass on (docs/adr/008). The next patch asks for the same log by its derivation.',
  },
  {
    find: 'nix log --substituters file://$cacheDir $outPath | grep FOO',
    replace: 'nix log --substituters "$cacheUrl" $(nix-store -qd $outPath) | grep FOO',
    expectation: 'By its derivation, for that reason.',
  },
  { find: 'copy-log --from file://$cacheDir', replace: 'copy-log --from "$cacheUrl"' },

  {
    find: '-qas \\* | grep -- "---"',
    replace: '-qas \\* | grep -- "--S"',
    expectation:
      'Our nix-cache-info says WantMassQuery: 1 whatever the upstream says, so paths are found at once.',
  },

  // A NAR that does not match its narinfo
  {
    find: 'nar=$(ls $cacheDir/nar/*.nar.xz | head -n1)\n',
    replace: 'narswarm forget-nars\nnar=$(ls $cacheDir/nar/*.nar.xz | head -n1)\n',
  },
  {
    find: 'grep -q "hash mismatch" $TEST_ROOT/log\n',
    replace: `grep -q "does not exist in binary cache" $TEST_ROOT/log
narswarm told 'expected [0-9]+ bytes of NAR, got 96'
nix-store --verify-path $(nix-store -qR $outPath)
`,
    expectation:
      'The mismatch is noticed by narswarm: no wrong byte comes to Nix, which sees a 404 and builds. What it then has must be right.',
  },

  // NARs that are gone
  {
    find: 'clearStore\n\nmv $cacheDir/nar $cacheDir/nar2\n\nnix-build',
    replace: 'clearStore\nnarswarm forget-nars\n\nmv $cacheDir/nar $cacheDir/nar2\n\nnix-build',
  },

  // NARs that are empty
  { find: 'mkdir $cacheDir/nar\n', replace: 'mkdir $cacheDir/nar\nnarswarm forget-nars\n' },
  {
    find: '(! nix-build --substituters "$cacheUrl" --no-require-sigs dependencies.nix -o $TEST_ROOT/result)\n',
    replace: `nix-build --substituters "$cacheUrl" --no-require-sigs dependencies.nix -o $TEST_ROOT/result
nix-store --verify-path $(nix-store -qR $outPath)
clearStore
`,
    expectation:
      'An empty NAR is a 404 of ours, so Nix takes it as gone and builds without --fallback: better than without us.',
  },

  // An incomplete closure. Its narinfos were given to this client by the narswarm of before the restarts.
  {
    find: 'rm -v $(grep -l "StorePath:.*dependencies-input-2"',
    replace: `narswarm forget-nars
HOME=$TEST_ROOT/other-home nix path-info --store "$cacheUrl" --recursive $outPath
rm -v $(grep -l "StorePath:.*dependencies-input-2"`,
  },
  {
    find: '# Idem, but without cached .narinfo.\nclearStore\n',
    replace: '# Idem, but without cached .narinfo.\nclearStore\nnarswarm forget-all\n',
  },

  // A signed cache
  {
    find: 'nix copy --to file://$cacheDir?secret-key=$TEST_ROOT/sk1 $outPath\n',
    replace:
      'nix copy --to file://$cacheDir?secret-key=$TEST_ROOT/sk1 $outPath\nnarswarm forget-all "$publicKey"\n',
  },
  {
    find: '(! nix-store -r $outPath --substituters "file://$cacheDir2" ',
    replace: `narswarm forget-all "$publicKey"
(! nix-store -r $outPath --substituters "$cacheUrl2" `,
  },
  {
    find: '--substituters "file://$cacheDir2 file://$cacheDir"',
    replace: '--substituters "$cacheUrl2 $cacheUrl"',
  },

  // Single files
  {
    find: 'nix store cat --store "file://$cacheDir?local',
    replace: 'nix store cat --store "$cacheUrl?local',
    times: 2,
  },
  { find: 'rm -rfv "$cacheDir/nar"\n', replace: 'rm -rfv "$cacheDir/nar"\nnarswarm forget-nars\n' },
  { find: 'nix store cat --store file://$cacheDir', replace: 'nix store cat --store "$cacheUrl"' },

  // A listing, made from the NAR: that of the folder is gone
  {
    find: 'nix copy --to file://$cacheDir?write-nar-listing=1 $outPath\n',
    replace: `nix copy --to "file://$cacheDir?write-nar-listing=1&secret-key=$publishKey" $outPath
narswarm forget-all
nix copy --from "$cacheUrl" --to $TEST_ROOT/store1 --no-check-sigs $outPath
rm $cacheDir/*.ls
`,
  },
  {
    find: '<(jq -S < $cacheDir/$(basename $outPath | cut -c1-32).ls)',
    replace: '<(curl -fsS "$cacheUrl/$(basename $outPath | cut -c1-32).ls" | jq -S)',
  },

  // Debug information, which is given of paths whose narinfo was
  {
    find: 'nix copy --to "file://$cacheDir?index-debug-info=1&compression=none" $outPath\n',
    replace: `nix copy --to "file://$cacheDir?index-debug-info=1&compression=none&secret-key=$publishKey" $outPath
narswarm forget-all
nix path-info --store "$cacheUrl" $outPath
`,
  },
  { find: '<(cat $cacheDir/debuginfo/', replace: '<(curl -fsS "$cacheUrl"/debuginfo/' },

  // A reference that is missing
  {
    find: 'nix copy --to "file://$cacheDir" $outPath\n',
    replace: `nix copy --to ${PUBLISHED_TO} $outPath\n`,
  },
  {
    find: 'rm $cacheDir/$(hashpart $docPath).narinfo\n',
    replace: 'rm $cacheDir/$(hashpart $docPath).narinfo\nnarswarm forget-all\n',
  },
  {
    find: '--option substituters "file://$cacheDir" \\\n  --option trusted-binary-caches "file://$cacheDir"',
    replace: '--option substituters "$cacheUrl" \\\n  --option trusted-binary-caches "$cacheUrl"',
  },
]

const SIGNING: readonly Patch[] = [
  {
    find: 'nix copy --to file://$cacheDir $outPath2\n',
    replace: 'nix copy --to file://$cacheDir $outPath2\nnarswarm forget-all "$pk1"\n',
  },
  {
    find: 'nix store sign --store file://$cacheDir --key-file $TEST_ROOT/sk2 $outPath2\n',
    replace: `nix store sign --store file://$cacheDir --key-file $TEST_ROOT/sk2 $outPath2
narswarm forget-all "$pk1"
clearCacheCache
`,
  },
  {
    find: 'nix path-info --store file://$cacheDir --json',
    replace: 'nix path-info --store "$cacheUrl" --json',
    times: 2,
  },
  // Ours: what was signed in two places is also believed, by those who know a key.
  {
    find: '# Copying to a diverted store should fail',
    replace: `(! nix copy --from "$cacheUrl" --to $TEST_ROOT/store1 $outPath2)
nix copy --from "$cacheUrl" --to $TEST_ROOT/store1 $outPath2 --trusted-public-keys $pk2

# Copying to a diverted store should fail`,
  },
]

const COMPRESSED: readonly Patch[] = [
  {
    find: 'nix copy --to $cacheURI $outPath\n',
    replace: 'nix copy --to "$cacheURI&secret-key=$publishKey" $outPath\nnarswarm forget-all\n',
  },
  { find: 'nix copy --from $cacheURI', replace: 'nix copy --from "$cacheUrl"' },
]

/** Has no read side of its own: what was written is read back into another store. */
const COMPRESSION_LEVELS: readonly Patch[] = [
  {
    find: 'nix copy --to $cacheURI $outPath\n',
    replace: `nix copy --to "$cacheURI&secret-key=$publishKey" $outPath
narswarm forget-all
clearCacheCache
chmod -R u+w $TEST_ROOT/store0 || true
rm -rf $TEST_ROOT/store0
nix copy --from "$cacheUrl" --to $TEST_ROOT/store0 --no-check-sigs $outPath
nix store verify --store $TEST_ROOT/store0 -r --no-trust $outPath
`,
    times: 2,
  },
]

const FETCH_CLOSURE: readonly Patch[] = [
  {
    find: 'nix copy --to file://$cacheDir $nonCaPath\n',
    replace: `nix copy --to ${PUBLISHED_TO} $nonCaPath\nnarswarm forget-all\n`,
  },
  // The read after it finds the path in the store, here as in the original. Fetched through us it would lack its CA line
  // (docs/adr/008), and fetchClosure would refuse it.
  {
    find: 'nix copy --to file://$cacheDir $caPath\n',
    replace: `nix copy --to ${PUBLISHED_TO} $caPath\nnarswarm forget-all\n`,
  },
  { find: 'fromStore = \\"file://$cacheDir\\"', replace: 'fromStore = \\"$cacheUrl\\"', times: 4 },
  { find: 'fromStore = \\"file://$cacheDir?local', replace: 'fromStore = \\"$cacheUrl?local' },
]

/** Has no cache in it: its path is published, and listed and read from there. */
const NAR_ACCESS: readonly Patch[] = [
  {
    find: 'cd "$TEST_ROOT"\n',
    replace: `nix copy --to ${PUBLISHED_TO} $storePath\nnarswarm forget-all\ncd "$TEST_ROOT"\n`,
  },
  { find: 'nix store ls ', replace: 'nix store ls --store "$cacheUrl" ', times: 5 },
  { find: 'nix store cat ', replace: 'nix store cat --store "$cacheUrl" ' },
  {
    find: `{"bar":{"type":"regular","size":0},"baz":{"type":"regular","size":0},"data":{"type":"regular","size":58}}`,
    replace: `{"bar":{"type":"regular","size":0,"narOffset":368},"baz":{"type":"regular","size":0,"narOffset":552},"data":{"type":"regular","size":58,"narOffset":736}}`,
    expectation:
      'Nix lists a path of a cache from its NAR, so with the offsets: those that this test expects of the NAR file.',
  },
  {
    find: `nix store ls --store "$cacheUrl" --json -R $storePath/foo/bar| jq -S) \\
    <(echo '{"type":"regular","size":0}' | jq -S)`,
    replace: `nix store ls --store "$cacheUrl" --json -R $storePath/foo/bar| jq -S) \\
    <(echo '{"type":"regular","size":0,"narOffset":368}' | jq -S)`,
    expectation: 'The same.',
  },
]

const INVALID_CA: readonly Patch[] = [
  {
    find: 'nix copy --to "$BINARY_CACHE" ',
    replace: 'nix copy --to "$BINARY_CACHE?secret-key=$publishKey" ',
    times: 2,
  },
  {
    find: 'if nix copy --from "$BINARY_CACHE" "$good"; then',
    // The second line is ours: what was not falsified must come.
    replace: `narswarm forget-all
nix copy --from "$cacheUrl" --no-check-sigs "$bad"
if nix copy --from "$cacheUrl" --no-check-sigs "$good"; then`,
  },
]

const CACHE = ['binary-cache']

export const NIX_TESTS: readonly NixTest[] = [
  { name: 'binary-cache', caches: ['binary-cache', 'binary-cache-2'], patches: BINARY_CACHE },
  { name: 'signing', caches: CACHE, patches: SIGNING },
  { name: 'zstd', caches: CACHE, patches: COMPRESSED },
  { name: 'brotli', caches: CACHE, patches: COMPRESSED },
  { name: 'compression-levels', caches: CACHE, patches: COMPRESSION_LEVELS },
  { name: 'fetchClosure', caches: CACHE, patches: FETCH_CLOSURE },
  { name: 'nar-access', caches: CACHE, patches: NAR_ACCESS },
  { name: 'substitute-with-invalid-ca', caches: CACHE, patches: INVALID_CA },
]
