/* The native decoder: decodes a box of a JPEG into the caller's memory, with libjpeg-turbo.
 *
 * Compiled code calls `decode` by its address (DECODE_ADDRESS), without the GIL. Python only
 * creates handles and reads messages. The pixels inside the box are those of a full decode, with
 * the accurate integer DCT and fancy upsampling. Every warning of libjpeg is an error.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <jpeglib.h>

/* Before 2.1, skipping rows had defects, and incomplete progressive files were smoothed by another
 * filter. */
#if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || LIBJPEG_TURBO_VERSION_NUMBER < 2001000
#error "libjpeg-turbo 2.1 or later is needed"
#endif

#define STRING(x) #x
#define EXPANDED(x) STRING(x)
#define HANDLE "ffcv_ssl.codecs._native.handle"

/* Limit for the scans of a progressive file, as in TurboJPEG; real files have about ten. */
#define MAX_SCANS 500

#define MARGIN 2 /* columns, for one sample of chroma at half resolution */

enum { DECODED = 0, FAILED = 1 };

/* State of one thread, kept between images. */
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

/* Turn warnings, which have level -1, into errors; higher levels are traces. */
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

/* Reset the state. libjpeg keeps quantization and Huffman tables, and would use them for a file
 * that has none. It costs 0.1 us. */
static void renew(Handle *handle)
{
    jpeg_destroy_decompress(&handle->jpeg);
    jpeg_create_decompress(&handle->jpeg);
    handle->jpeg.progress = &handle->progress;
}

/* Read the header, and fail for an image of another size before memory is allocated for it. */
static void start(Handle *handle, int64_t height, int64_t width, int64_t denominator)
{
    j_decompress_ptr jpeg = &handle->jpeg;
    jpeg_read_header(jpeg, TRUE);
    if (jpeg->image_height != height || jpeg->image_width != width) {
        snprintf(handle->message, sizeof handle->message,
                 "JPEG of (height, width) (%u, %u), wanted (%lld, %lld)", jpeg->image_height,
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

/* Return whether libjpeg smooths the image over neighboring blocks, because a progressive file
 * lacks bits of some coefficients. A partial decode would not have these blocks. */
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

/* Keep the box's columns and MARGIN more on each side, which the fancy upsampling of chroma reads.
 * A whole iMCU more would cost 3 %. Returns the first column that is kept: the start of an iMCU, so
 * that a cropped row never exceeds the image. */
static JDIMENSION crop(j_decompress_ptr jpeg, JDIMENSION left, JDIMENSION box_width)
{
    const JDIMENSION right = left + box_width;
    JDIMENSION first = left > MARGIN ? left - MARGIN : 0;
    JDIMENSION end = jpeg->output_width - right > MARGIN ? right + MARGIN : jpeg->output_width;
    JDIMENSION columns = end - first;
    jpeg_crop_scanline(jpeg, &first, &columns);
    return first;
}

/* Skip rows, then read rows. libjpeg entropy-decodes skipped rows without computing pixels. */
static void read_rows(j_decompress_ptr jpeg, JSAMPROW out, size_t stride, JDIMENSION num_skipped,
                      JDIMENSION num_rows)
{
    jpeg_skip_scanlines(jpeg, num_skipped);
    for (JDIMENSION end = jpeg->output_scanline + num_rows; jpeg->output_scanline < end;) {
        JSAMPROW row = out + stride * jpeg->output_scanline;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
}

/* Decode a box of a JPEG. Returns 0, or 1 after a failure, whose reason the handle holds.
 *
 * All arguments are int64. `out` is the address of the scaled image, C-contiguous (rows,
 * columns, 3) uint8. The denominator of the scale is 1, 2, 4 or 8. `height` and `width` are those
 * of the record, before scaling; the box is in pixels of the scaled image. Pixels outside the box
 * may be overwritten, bytes outside the image never.
 *
 * The rows below the box are read too, so that a box fails if and only if the whole image does.
 * Without them, damaged rows in the box could go unnoticed, because Huffman codes have no checksum.
 * It costs 6 % of the time for one view's box. */
static int64_t decode(int64_t handle_address, int64_t data, int64_t size, int64_t out,
                      int64_t height, int64_t width, int64_t top, int64_t left, int64_t box_height,
                      int64_t box_width, int64_t denominator)
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
    if (top < 0 || left < 0 || box_height < 1 || box_width < 1 ||
        top > jpeg->output_height - box_height || left > columns - box_width)
        fail_with(handle, "the box reaches out of the image");
    const int whole_rows = is_smoothed(jpeg);
    const JDIMENSION first =
        whole_rows ? 0 : crop(jpeg, (JDIMENSION)left, (JDIMENSION)box_width);
    const JSAMPROW pixels = (JSAMPROW)(intptr_t)out + 3 * first;
    const JDIMENSION skipped = whole_rows ? 0 : (JDIMENSION)top;
    const JDIMENSION bottom = (JDIMENSION)(top + box_height);
    read_rows(jpeg, pixels, 3 * (size_t)columns, skipped, bottom - skipped);
    if (jpeg_has_multiple_scans(jpeg)) /* all of them were read at the start */
        jpeg_abort_decompress(jpeg);
    else {
        if (bottom < jpeg->output_height) /* libjpeg would skip the rest unread */
            read_rows(jpeg, pixels, 3 * (size_t)columns,
                      jpeg->output_height - 1 - bottom, 1);
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
    if (setjmp(handle->failed)) { /* the library does not match the header */
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
    if (handle == NULL)
        return NULL;
    return PyUnicode_DecodeLatin1(handle->message, strlen(handle->message), NULL);
}

static PyMethodDef methods[] = {
    {"new_handle", new_handle, METH_NOARGS, "Create the decoder state of a thread, as a capsule."},
    {"address", address, METH_O, "Return the address of a handle."},
    {"message", message, METH_O, "Return the reason of the last failure with a handle."},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module)
{
    PyObject *decode_address = PyLong_FromVoidPtr((void *)decode);
    int failed = decode_address == NULL ||
                 PyModule_AddObject(module, "DECODE_ADDRESS", decode_address) < 0;
    const char *library = "libjpeg-turbo " EXPANDED(LIBJPEG_TURBO_VERSION);
    return failed || PyModule_AddStringConstant(module, "LIBRARY", library) < 0 ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)fill}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Strict JPEG decoding of boxes.", 0, methods, slots};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
