import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fingerprint } from '../../src/nix/fingerprint.ts'
import { parseNarHash } from '../../src/nix/hash.ts'
import { parsePublicKey } from '../../src/nix/key.ts'
import { formatNarInfo, NarInfoError, parseNarInfo } from '../../src/nix/narinfo.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { verify } from '../../src/nix/signature.ts'
import { skipWithoutVectors } from '../kit/vectors.ts'
import { CACHE_NIXOS_ORG, genuineNarInfos, STORE_DIR } from './genuine.ts'
import { sampleNarInfo, sampleText } from './sample.ts'

const skip = skipWithoutVectors()

describe('the genuine narinfos', { skip }, () => {
  const genuine = genuineNarInfos()

  it('are 58', () => {
    assert.equal(genuine.length, 58)
  })

  it('verify under cache.nixos.org-1, and no longer after a bit of what is signed', () => {
    const key = parsePublicKey(CACHE_NIXOS_ORG)
    for (const { file, text } of genuine) {
      const info = parseNarInfo(text, STORE_DIR)
      const isSigned = (fields: NarInfo): boolean =>
        info.signatures.some((signature) => verify(key, fingerprint(fields, STORE_DIR), signature))
      assert.equal(isSigned(info), true, file)
      assert.equal(isSigned({ ...info, narSize: info.narSize + 1 }), false, file)
      assert.equal(
        isSigned({ ...info, references: info.references.slice(1) }),
        info.references.length === 0,
        file,
      )
    }
  })

  it('are the same after being written and read', () => {
    for (const { file, text } of genuine) {
      const info = parseNarInfo(text, STORE_DIR)
      assert.deepEqual(parseNarInfo(formatNarInfo(info, STORE_DIR), STORE_DIR), info, file)
    }
  })

  it('are written byte for byte as they came, 55 of 58', () => {
    const changed = genuine.filter(
      ({ text }) => formatNarInfo(parseNarInfo(text, STORE_DIR), STORE_DIR) !== text,
    )
    // NarHash in base 16; FileHash in base 16; no References line.
    assert.deepEqual(
      changed.map(({ file }) => file.slice(0, 8)),
      ['0vpqfxbk', '1gxz5nfz', '5k1cggdm'],
    )
    assert.equal(genuine.length - changed.length, 55)
  })

  it('keep nothing back: every field of the text is in what was read', () => {
    for (const { file, text } of genuine) {
      const info = parseNarInfo(text, STORE_DIR)
      const count = (name: string): number =>
        text.split('\n').filter((line) => line.startsWith(`${name}: `)).length
      assert.equal(info.signatures.length, count('Sig'), file)
      assert.equal(info.ca !== undefined, count('CA') === 1, file)
      assert.equal(info.system !== undefined, count('System') === 1, file)
      assert.equal(info.deriver !== undefined, count('Deriver') === 1, file)
      const references = /^References: (.*)$/m.exec(text)?.[1] ?? ''
      assert.equal(info.references.length, references.split(' ').filter(Boolean).length, file)
    }
  })

  it('have up to 3,691 references', () => {
    const counts = genuine.map(({ text }) => parseNarInfo(text, STORE_DIR).references.length)
    assert.equal(Math.max(...counts), 3691)
  })
})

describe('parseNarInfo', () => {
  const text = sampleText()

  it('reads every field', () => {
    assert.deepEqual(parseNarInfo(text, STORE_DIR), sampleNarInfo())
  })

  it('takes its lines in any order', () => {
    const reversed = `${text.trimEnd().split('\n').toReversed().join('\n')}\n`
    assert.deepEqual(parseNarInfo(reversed, STORE_DIR), sampleNarInfo())
  })

  it('ignores unknown fields, and names in other letters', () => {
    const more = `${text}Provenance: {"a": [1]}\nstorepath: x\nDate: é: :\n`
    assert.deepEqual(parseNarInfo(more, STORE_DIR), sampleNarInfo())
  })

  const optional: [line: string, read: Partial<NarInfo>][] = [
    ['Deriver: unknown-deriver', { deriver: 'unknown-deriver' }],
    ['System: x86_64-linux', { system: 'x86_64-linux' }],
    ['System: ', {}],
    ['CA: ', {}],
    [
      'CA: fixed:r:sha1:e4fd8ba5f7bbeaea5ace89fe10255536cd60dab6',
      { ca: 'fixed:r:sha1:e4fd8ba5f7bbeaea5ace89fe10255536cd60dab6' },
    ],
    ['CID: bafkreigh2akiscaildc', { cid: 'bafkreigh2akiscaildc' }],
    ['CID: not a CID', {}],
    ['FileSize: 0', { fileSize: 0 }],
    [`FileHash: sha256:${'00'.repeat(32)}`, { fileHash: parseNarHash(`sha256:${'00'.repeat(32)}`) }],
  ]
  for (const [line, read] of optional) {
    it(`takes ${JSON.stringify(line)}`, () => {
      const { storePath, url, compression, narHash, narSize, references, signatures } = sampleNarInfo()
      const required = { storePath, url, compression, narHash, narSize, references, signatures }
      const info = parseNarInfo(`${formatNarInfo(required, STORE_DIR)}${line}\n`, STORE_DIR)
      assert.deepEqual(info, { ...required, ...read })
      assert.deepEqual(parseNarInfo(formatNarInfo(info, STORE_DIR), STORE_DIR), info)
    })
  }

  for (const line of ['', 'Compression: \n']) {
    it(`reads ${JSON.stringify(line)} in place of Compression as bzip2`, () => {
      assert.equal(parseNarInfo(text.replace('Compression: none\n', line), STORE_DIR).compression, 'bzip2')
    })
  }

  for (const compression of ['none', 'xz', 'bzip2', 'gzip', 'zstd', 'br']) {
    it(`takes Compression: ${compression}`, () => {
      const wanted = text.replace('Compression: none', `Compression: ${compression}`)
      assert.equal(parseNarInfo(wanted, STORE_DIR).compression, compression)
    })
  }

  for (const references of ['', 'References: \n', 'References:   \n']) {
    it(`reads ${JSON.stringify(references)} as no references`, () => {
      const without = text.replace(/References: .*\n/, references)
      assert.deepEqual(parseNarInfo(without, STORE_DIR).references, [])
    })
  }

  it('sorts references and lets more than one space pass', () => {
    const references = sampleNarInfo().references
    const shuffled = text.replace(/References: .*/, `References:  ${references.toReversed().join('   ')} `)
    assert.deepEqual(parseNarInfo(shuffled, STORE_DIR).references, references)
  })

  it('takes a store in another folder when that is ours', () => {
    const info = parseNarInfo(text.replaceAll('/nix/store', '/home/a/store'), '/home/a/store')
    assert.equal(info.storePath, sampleNarInfo().storePath)
  })

  it('names line and field in its errors', () => {
    const wrong = text.replace('NarSize: 206000', 'NarSize: 0206000')
    assert.throws(
      () => parseNarInfo(wrong, STORE_DIR),
      (error: unknown) => {
        assert.ok(error instanceof NarInfoError)
        assert.match(error.message, /^narinfo line 7 \("NarSize"\): expected a decimal number.*"0206000"$/)
        assert.ok(error.cause instanceof RangeError)
        return true
      },
    )
  })
})

describe('formatNarInfo', () => {
  it('writes the lines in the order of Nix, CID last', () => {
    const info: NarInfo = {
      ...sampleNarInfo(),
      cid: 'bafkreigh2akiscaildc',
      ca: `text:sha256:${'0'.repeat(52)}`,
      system: 'x86_64-linux',
      references: sampleNarInfo().references.toReversed(),
    }
    assert.deepEqual(formatNarInfo(info, STORE_DIR).split('\n'), [
      'StorePath: /nix/store/7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-sample-1.0',
      `URL: ${info.url}`,
      'Compression: none',
      `FileHash: sha256:${info.narHash}`,
      'FileSize: 206000',
      `NarHash: sha256:${info.narHash}`,
      'NarSize: 206000',
      'References: 7c5zrpajq5ydlg2zbbnfs1l4lwbxsdqq-sample-1.0 a6rnjp15qgp8a699dlffqj94hzy1nldg-library-2.32',
      'Deriver: m0i10ghpcwhi2dml0dj6b437jjrh8ia3-sample-1.0.drv',
      'System: x86_64-linux',
      sampleText()
        .split('\n')
        .find((line) => line.startsWith('Sig: signer-1:')),
      `CA: text:sha256:${'0'.repeat(52)}`,
      'CID: bafkreigh2akiscaildc',
      '',
    ])
  })

  it('writes "References: " with its space when there are none', () => {
    assert.match(formatNarInfo({ ...sampleNarInfo(), references: [] }, STORE_DIR), /\nReferences: \n/)
  })

  for (const url of ['nar/x\nSig: y', 'nar/x\r']) {
    it(`refuses the url ${JSON.stringify(url)}`, () => {
      assert.throws(() => formatNarInfo({ ...sampleNarInfo(), url }, STORE_DIR), NarInfoError)
    })
  }
})
