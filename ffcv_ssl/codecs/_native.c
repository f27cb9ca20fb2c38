/* The native shim: strict JPEG decode of a box of an image, straight into the caller's memory, over libjpeg-turbo.
 *
 * Compiled code reaches `decode` by its address (DECODE_ADDRESS), without the GIL; Python only makes handles and reads messages.
 * The pixels inside the box are those of a full decode: accurate integer DCT, fancy upsampling, and every warning is an error.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <jpeglib.h>

/* Before 2.1 skipping rows had defects, and unfinished progressive files were smoothed by another filter than today's. */
#if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || LIBJPEG_TURBO_VERSION_NUMBER < 2001000
#error "libjpeg-turbo 2.1 or later is needed"
#endif

#define STRING(x) #x
#define EXPANDED(x) STRING(x)
#define HANDLE "ffcv_ssl.codecs._native.handle"

#define MAX_SCANS 500 /* of a progressive file; real ones have about ten. The bound of TurboJPEG's own guard. */

#define MARGIN 2 /* columns: one sample of chroma at half resolution */

enum { DECODED = 0, FAILED = 1 };

/* What one thread keeps between images. */
typedef struct {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    char message[JMSG_LENGTH_MAX];
} Handle;

static void fail(j_common_ptr jpeg)
{
    Handle *handle = jpeg->client_data;
    jpeg->err->format_message(jpeg, handle->message);
    longjmp(handle->failed, 1);
}

static void fail_with(Handle *handle, const char *reason)
{
    snprintf(handle->message, sizeof handle->message, "%s", reason);
    longjmp(handle->failed, 1);
}

/* libjpeg repairs what it can and says so at level -1; higher levels are traces. */
static void on_message(j_common_ptr jpeg, int level)
{
    if (level < 0)
        fail(jpeg);
}

static void limit_scans(j_common_ptr jpeg)
{
    if (((j_decompress_ptr)jpeg)->input_scan_number > MAX_SCANS)
        fail_with(jpeg->client_data, "more than " EXPANDED(MAX_SCANS) " scans");
}

/* Forget the image before: libjpeg keeps quantization and Huffman tables, and a file without its own would get those. It costs 0.1 us. */
static void renew(Handle *handle)
{
    jpeg_destroy_decompress(&handle->jpeg);
    jpeg_create_decompress(&handle->jpeg);
    handle->jpeg.progress = &handle->progress;
}

/* Read the header, and refuse an image that `out` was not made for before anything of its size is allocated. */
static void start(Handle *handle, int64_t height, int64_t width, int64_t denominator)
{
    j_decompress_ptr jpeg = &handle->jpeg;
    jpeg_read_header(jpeg, TRUE);
    if (jpeg->image_height != height || jpeg->image_width != width) {
        snprintf(handle->message, sizeof handle->message, "JPEG of (height, width) (%u, %u), wanted (%lld, %lld)", jpeg->image_height,
                 jpeg->image_width, (long long)height, (long long)width);
        longjmp(handle->failed, 1);
    }
    if (denominator < 1 || 8 % denominator)
        fail_with(handle, "the denominator is 1, 2, 4 or 8");
    jpeg->out_color_space = JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->do_fancy_upsampling = TRUE;
    jpeg->scale_num = 1;
    jpeg->scale_denom = (unsigned int)denominator;
    jpeg_start_decompress(jpeg);
}

/* A progressive file that lacks bits of some coefficients is smoothed over neighbouring blocks, which a partial decode would not have. */
static int is_smoothed(j_decompress_ptr jpeg)
{
    if (!jpeg->progressive_mode || jpeg->coef_bits == NULL)
        return 0;
    for (int component = 0; component < jpeg->num_components; component++)
        for (int k = 0; k < DCTSIZE2; k++)
            if (jpeg->coef_bits[component][k] != 0)
                return 1;
    return 0;
}

/* Keep the box's columns and, on each side, MARGIN more, which the fancy upsampling of chroma reads; a whole iMCU more would cost 3 %.
 * Returns the first kept column: the start of an iMCU, so that a cropped row never reaches beyond its own end. */
static JDIMENSION crop(j_decompress_ptr jpeg, JDIMENSION left, JDIMENSION box_width)
{
    const JDIMENSION right = left + box_width;
    JDIMENSION first = left > MARGIN ? left - MARGIN : 0;
    JDIMENSION columns = (jpeg->output_width - right > MARGIN ? right + MARGIN : jpeg->output_width) - first;
    jpeg_crop_scanline(jpeg, &first, &columns);
    return first;
}

/* Read the rows from the next one on; skipped ones are entropy-decoded, but no pixel of them is computed. */
static void read_rows(j_decompress_ptr jpeg, JSAMPROW out, size_t stride, JDIMENSION num_skipped, JDIMENSION num_rows)
{
    jpeg_skip_scanlines(jpeg, num_skipped);
    for (JDIMENSION end = jpeg->output_scanline + num_rows; jpeg->output_scanline < end;) {
        JSAMPROW row = out + stride * jpeg->output_scanline;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
}

/* Decode a box of a JPEG; returns 0, or 1 with the reason in the handle.
 *
 * `out` points at the first pixel of the whole image at 1/denominator (1, 2, 4 or 8), C-contiguous (rows, columns, 3) uint8; `height`
 * and `width` are those of the record, at denominator 1; the box counts pixels of the scaled image. Pixels outside the box may be
 * overwritten, bytes outside the image never. The rows below the box are read too, for their errors (without them garbled rows in the
 * box may go unnoticed: Huffman code has no checksum; it costs 6 % of one view's box): a box fails where the whole image would.
 * All pointers and numbers come as int64. */
static int64_t decode(int64_t handle_address, int64_t data, int64_t size, int64_t out, int64_t height, int64_t width, int64_t top,
                      int64_t left, int64_t box_height, int64_t box_width, int64_t denominator)
{
    Handle *handle = (Handle *)(intptr_t)handle_address;
    j_decompress_ptr jpeg = &handle->jpeg;
    if (setjmp(handle->failed)) {
        jpeg_abort_decompress(jpeg);
        return FAILED;
    }
    renew(handle);
    jpeg_mem_src(jpeg, (unsigned char *)(intptr_t)data, (unsigned long)size);
    start(handle, height, width, denominator);
    const JDIMENSION columns = jpeg->output_width; /* cropping changes it */
    if (top < 0 || left < 0 || box_height < 1 || box_width < 1 || top > jpeg->output_height - box_height || left > columns - box_width)
        fail_with(handle, "the box reaches out of the image");
    const int whole_rows = is_smoothed(jpeg);
    const JDIMENSION first = whole_rows ? 0 : crop(jpeg, (JDIMENSION)left, (JDIMENSION)box_width);
    const JSAMPROW pixels = (JSAMPROW)(intptr_t)out + 3 * first;
    const JDIMENSION skipped = whole_rows ? 0 : (JDIMENSION)top, bottom = (JDIMENSION)(top + box_height);
    read_rows(jpeg, pixels, 3 * (size_t)columns, skipped, bottom - skipped);
    if (jpeg_has_multiple_scans(jpeg)) /* all of them were read at the start */
        jpeg_abort_decompress(jpeg);
    else {
        if (bottom < jpeg->output_height) /* to its end libjpeg would skip without reading */
            read_rows(jpeg, pixels, 3 * (size_t)columns, jpeg->output_height - 1 - bottom, 1);
        jpeg_finish_decompress(jpeg);
    }
    return DECODED;
}

static void free_handle(PyObject *capsule)
{
    Handle *handle = PyCapsule_GetPointer(capsule, HANDLE);
    jpeg_destroy_decompress(&handle->jpeg);
    PyMem_RawFree(handle);
}

static PyObject *new_handle(PyObject *module, PyObject *unused)
{
    Handle *handle = PyMem_RawCalloc(1, sizeof *handle);
    if (handle == NULL)
        return PyErr_NoMemory();
    handle->jpeg.err = jpeg_std_error(&handle->errors);
    handle->errors.error_exit = fail;
    handle->errors.emit_message = on_message;
    handle->progress.progress_monitor = limit_scans;
    handle->jpeg.client_data = handle;
    if (setjmp(handle->failed)) { /* the library that was found is not the one of the header */
        PyErr_SetString(PyExc_ImportError, handle->message);
        PyMem_RawFree(handle);
        return NULL;
    }
    jpeg_create_decompress(&handle->jpeg);
    handle->jpeg.progress = &handle->progress;
    return PyCapsule_New(handle, HANDLE, free_handle);
}

static PyObject *address(PyObject *module, PyObject *capsule)
{
    Handle *handle = PyCapsule_GetPointer(capsule, HANDLE);
    return handle == NULL ? NULL : PyLong_FromVoidPtr(handle);
}

static PyObject *message(PyObject *module, PyObject *capsule)
{
    Handle *handle = PyCapsule_GetPointer(capsule, HANDLE);
    return handle == NULL ? NULL : PyUnicode_DecodeLatin1(handle->message, strlen(handle->message), NULL);
}

static PyMethodDef methods[] = {
    {"new_handle", new_handle, METH_NOARGS, "Make what one thread needs to decode, a capsule that frees itself."},
    {"address", address, METH_O, "Return the address of a handle."},
    {"message", message, METH_O, "Say why the last decode with a handle failed."},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module)
{
    PyObject *decode_address = PyLong_FromVoidPtr((void *)decode);
    int failed = decode_address == NULL || PyModule_AddObject(module, "DECODE_ADDRESS", decode_address) < 0;
    return failed || PyModule_AddStringConstant(module, "LIBRARY", "libjpeg-turbo " EXPANDED(LIBJPEG_TURBO_VERSION)) < 0 ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)fill}, {0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", "Strict JPEG decode of boxes, by address.", 0, methods, slots};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
