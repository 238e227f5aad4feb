// Shows DEvUDP Restore's image before and after on the node, with a divider to drag.
import { api } from '../../../scripts/api.js'
import { addWidget, along, findWidget, removeWidget, showOutputs } from './node_outputs.js'

const NODE = 'DEvUDPRestore'
const WIDGET = 'before_after'
const HEIGHT = 220 // pixels, at least
const MARGIN = 10 // of the page's own, above and below
const PREVIEW = '$$canvas-image-preview' // the page's own widget

function url(image) {
  return api.apiURL(`/view?${new URLSearchParams(image)}`)
}

function makeView() {
  const view = document.createElement('div')
  view.style.cssText = 'position:relative;overflow:hidden;width:100%;height:100%;cursor:ew-resize'
  view.style.minHeight = `${HEIGHT - 2 * MARGIN}px` // Nodes 2.0 asks the element, not the widget
  const images = [0, 1].map(() => {
    const image = document.createElement('img')
    image.draggable = false
    image.style.cssText =
      'position:absolute;inset:0;width:100%;height:100%;object-fit:contain;user-select:none'
    view.append(image)
    return image
  })
  const line = document.createElement('div')
  line.style.cssText =
    'position:absolute;top:0;bottom:0;width:2px;background:white;pointer-events:none'
  view.append(line)
  const divide = (share) => {
    images[1].style.clipPath = `inset(0 0 0 ${share * 100}%)`
    line.style.left = `${share * 100}%`
  }
  divide(0.5)
  view.addEventListener('pointermove', (event) => {
    const { left, width } = view.getBoundingClientRect()
    divide(Math.min(1, Math.max(0, (event.clientX - left) / width)))
  })
  return { view, images }
}

// A node with the property before_after: false has none, e.g. where the workflow shows both.
// Not before there is something to show: the node stays small.
function ensureWidget(node) {
  const known = findWidget(node, WIDGET)
  if (known) return known
  const { view, images } = makeView()
  const widget = addWidget(node, WIDGET, 'devudp_compare', view, { getMinHeight: () => HEIGHT })
  widget.images = images
  return widget
}

function show(node, output) {
  const [before, after] = [output?.a_images?.[0], output?.b_images?.[0]]
  if (!before || !after || node.properties?.[WIDGET] === false) return
  const { images } = ensureWidget(node)
  images[0].src = url(before)
  images[1].src = url(after)
  node.setDirtyCanvas?.(true, true)
}

showOutputs({ name: 'DEvUDP.Compare', comfyClass: NODE, show })

// While a node works, the page shows previews on it, and leaves the last one there: the same image
// again, which makes the node too tall for its place. So it goes once the node has run or was stopped.
const heights = new Map() // by the node's name in the run: as tall as before the first preview
const LATE = 700 // milliseconds: the page is still loading the last preview, and is slow to revoke

function forgetPreview(name) {
  const node = along(name).at(-1)
  if (node?.comfyClass !== NODE || !heights.has(name)) return
  const stores = document.getElementById('vue-app')?.__vue_app__?.config.globalProperties.$pinia?._s
  const ids = name.split(':')
  for (let depth = 1; depth <= ids.length; depth++) {
    const shown = ids.slice(0, depth).join(':') // the blueprints around it show the preview, too
    stores?.get('nodeOutput')?.revokePreviewsByExecutionId?.(shown)
  }
  const height = heights.get(name)
  heights.delete(name)
  const clear = () => {
    if (heights.has(name)) return // the next run has begun
    node.imgs = undefined
    removeWidget(node, PREVIEW)
    node.setSize([node.size[0], Math.max(height, node.computeSize()[1])])
    node.setDirtyCanvas?.(true, true)
  }
  clear()
  setTimeout(clear, LATE)
}

api.addEventListener('b_preview_with_metadata', ({ detail }) => {
  const name = String(detail.displayNodeId ?? detail.nodeId)
  const node = along(name).at(-1)
  if (node?.comfyClass === NODE && !heights.has(name)) heights.set(name, node.size[1])
})
api.addEventListener('executed', ({ detail }) =>
  forgetPreview(String(detail.display_node ?? detail.node))
)
for (const end of ['execution_error', 'execution_interrupted']) {
  api.addEventListener(end, () => [...heights.keys()].forEach(forgetPreview))
}
